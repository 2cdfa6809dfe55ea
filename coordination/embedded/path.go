package embedded

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// ErrInvalidPath says that a path breaks ZooKeeper's rules for names; the
// message says which one.
var ErrInvalidPath = errors.New("invalid path")

// checkPath applies ZooKeeper's rules, so that a tree that works here also works
// there.
func checkPath(p string) error {
	if why := pathFault(p); why != "" {
		return fmt.Errorf("%w %q: %s", ErrInvalidPath, p, why)
	}
	return nil
}

// pathFault says what is wrong with a path, or nothing.
func pathFault(p string) string {
	switch {
	case p == "":
		return "it is empty; the root is /"
	case p[0] != '/':
		return "it must begin with a slash"
	case p == "/":
		return ""
	case p[len(p)-1] == '/':
		return "it must not end with a slash"
	case !utf8.ValidString(p):
		return "it is not valid UTF-8"
	}
	for part := range strings.SplitSeq(p[1:], "/") {
		switch part {
		case "":
			return "it has an empty component"
		case ".", "..":
			return "relative components (. and ..) are not allowed"
		}
	}
	for i, r := range p {
		if forbidden(r) {
			return fmt.Sprintf("it has the forbidden character %U at byte %d", r, i)
		}
	}
	return ""
}

// forbidden lists what ZooKeeper refuses: controls, surrogates, private use and
// specials.
func forbidden(r rune) bool {
	return r <= 0x1f || r >= 0x7f && r <= 0x9f || r >= 0xd800 && r <= 0xf8ff || r >= 0xfff0 && r <= 0xffff
}

// parentOf is the parent of a valid path other than the root.
func parentOf(p string) string {
	if i := strings.LastIndexByte(p, '/'); i > 0 {
		return p[:i]
	}
	return "/"
}

// nameOf is the last component of a valid path.
func nameOf(p string) string { return p[strings.LastIndexByte(p, '/')+1:] }
