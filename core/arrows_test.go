package core_test

import (
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/millrace/millrace/"

// implementations are the folders whose packages implement a seam.
func implementations() []string {
	return []string{"storage/", "transport/", "coordination/", "partitioners", "plugins/"}
}

// TestArrows holds the direction of imports: the core imports no implementation, the
// contracts import nothing but core/record, an implementation imports no other one,
// and fx stays in core/broker.
func TestArrows(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f",
		`{{.ImportPath}}:{{join .Imports " "}}`, module+"...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	packages := 0
	for line := range strings.Lines(string(out)) {
		path, imports, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			t.Fatalf("go list printed %q", line)
		}
		packages++
		for imp := range strings.FieldsSeq(imports) {
			if why := forbidden(strings.TrimPrefix(path, module), imp); why != "" {
				t.Errorf("%s imports %s: %s", path, imp, why)
			}
		}
	}
	if packages < 5 {
		t.Fatalf("only %d packages were looked at", packages)
	}
}

// forbidden says why a package may not import another one; empty when it may.
func forbidden(pkg, imp string) string {
	if imp == "go.uber.org/fx" && pkg != "core/broker" {
		return "fx is imported in core/broker only"
	}
	own, local := strings.CutPrefix(imp, module)
	if !local {
		if external := strings.Contains(strings.SplitN(imp, "/", 2)[0], "."); external && (pkg == "core" || pkg == "core/record") {
			return "the contracts need the standard library alone"
		}
		return ""
	}
	switch {
	case pkg == "core" && own != "core/record":
		return "the contracts import core/record alone"
	case pkg == "core/record":
		return "core/record imports nothing of ours"
	case strings.HasPrefix(pkg, "core/") && implementation(own) != "":
		return "the core imports no implementation"
	case implementation(pkg) != "" && implementation(own) != "" && folder(pkg) != folder(own):
		return "an implementation imports no other one"
	case implementation(pkg) != "" && strings.HasPrefix(own, "core/") && own != "core/record":
		return "an implementation imports core and core/record"
	case !strings.HasPrefix(pkg, "cmd/") && strings.HasPrefix(own, "cmd/"):
		return "nobody imports a command"
	}
	return ""
}

// implementation is the seam's folder that a package belongs to, or empty.
func implementation(pkg string) string {
	for _, dir := range implementations() {
		if strings.HasPrefix(pkg, dir) {
			return dir
		}
	}
	return ""
}

// folder is the first two elements of a path: one implementation with the packages
// below it.
func folder(pkg string) string {
	if strings.HasPrefix(pkg, "plugins/") {
		return "plugins" // one implementation, of all seams
	}
	parts := strings.SplitN(pkg, "/", 3)
	return strings.Join(parts[:min(2, len(parts))], "/")
}

// TestForbidden sees that the rules can fail.
func TestForbidden(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ pkg, imp string }{
		{"core", module + "core/config"},
		{"core", "github.com/twmb/franz-go/pkg/kmsg"},
		{"core/record", module + "core"},
		{"core/api", module + "storage/mmap"},
		{"core/replica", "go.uber.org/fx"},
		{"storage/mmap", module + "storage/memory"},
		{"storage/mmap", module + "core/replica"},
		{"sdk/broker", module + "cmd/millrace"},
	} {
		if forbidden(c.pkg, c.imp) == "" {
			t.Errorf("%s may import %s, and should not", c.pkg, c.imp)
		}
	}
	for _, c := range []struct{ pkg, imp string }{
		{"core", "context"},
		{"core", module + "core/record"},
		{"core/broker", "go.uber.org/fx"},
		{"storage/mmap", module + "core"},
		{"storage/mmap", module + "internal/vfs"},
		{"sdk/broker", module + "storage/mmap"},
	} {
		if why := forbidden(c.pkg, c.imp); why != "" {
			t.Errorf("%s may not import %s: %s", c.pkg, c.imp, why)
		}
	}
}
