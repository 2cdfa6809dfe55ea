package main

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"text/template"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/partitioners"
	"github.com/millrace/millrace/storage/compression"
	"github.com/millrace/millrace/storage/retention"
)

//go:embed scaffold/*.tmpl
var scaffold embed.FS

// pluginKinds are what the scaffold has a main.go for.
func pluginKinds() []string { return []string{"partitioner", "retention", "compression"} }

// newPlugin is what the templates are filled with.
type newPlugin struct {
	Kind, Name, Module string
	// Go is the version of the language. Replace is a checkout of Millrace and Requires what
	// its go.mod requires; both are empty without one. Version is the release to require
	// without a checkout; empty for the newest.
	Go, Replace, Requires, Version string
}

func pluginsNew(io streams) *cobra.Command {
	var dir string
	p := newPlugin{Go: "1.26.0"}
	cmd := &cobra.Command{
		Use: "new partitioner|retention|compression NAME", Short: "Make a folder with a plugin that builds and passes its tests",
		Args: exactly("partitioner, retention or compression", "NAME"),
		Long: `Writes a Go module with a program, its test and a README, for you to change. With
--replace, or inside of a checkout of Millrace, it builds against the checkout and needs no
network; elsewhere go mod tidy comes first, which fetches the release of this command, or
the newest where it was not installed as one (go install ...@VERSION).`,
		Example: `  millrace plugins new retention mine
  millrace plugins new partitioner mine --module example.com/mine --replace ~/src/millrace`,
		RunE: func(_ *cobra.Command, args []string) error {
			p.Kind, p.Name = args[0], args[1]
			if dir == "" {
				dir = p.Name
			}
			if err := p.check(); err != nil {
				return err
			}
			if err := p.write(dir); err != nil {
				return err
			}
			return p.next(io, dir)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "folder to make (default NAME)")
	cmd.Flags().StringVar(&p.Module, "module", "", "path of the Go module (default NAME)")
	cmd.Flags().StringVar(&p.Replace, "replace", "", "checkout of Millrace to build against (default the one that you are in, if any)")
	return cmd
}

// pluginName is the host's rule for plugin.NAME.path.
var pluginName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]*$`)

// modulePath is a part of Go's rule for modules.
var modulePath = regexp.MustCompile(`^[a-zA-Z0-9_~-][a-zA-Z0-9._~-]*(/[a-zA-Z0-9_~-][a-zA-Z0-9._~-]*)*$`)

// takenPaths are first elements of module paths that Go keeps for itself or has in its
// standard library: "ambiguous import" is all that it would say.
const takenPaths = `all archive bufio builtin bytes cmd cmp compress container context crypto database debug embed encoding errors
	expvar flag fmt go hash html image index internal io iter log main maps math mime net os path plugin reflect regexp runtime
	simd slices sort std strconv strings structs sync syscall test testing text time tool toolchain unicode unique unsafe vendor
	weak work`

// check looks at the arguments and reads the checkout.
func (p *newPlugin) check() error {
	if !slices.Contains(pluginKinds(), p.Kind) {
		return usagef("%s: want one of %s", p.Kind, strings.Join(pluginKinds(), ", "))
	}
	if !pluginName.MatchString(p.Name) {
		return usagef("%s: want a name of lower-case letters, digits, - and _ that begins with a letter or a digit", p.Name)
	}
	if taken, err := builtinNames(p.Kind); err != nil {
		return err
	} else if slices.Contains(taken, p.Name) {
		return usagef("the %s %s is built in: choose another name", p.Kind, p.Name)
	}
	if p.Module == "" {
		p.Module = p.Name
	}
	if !modulePath.MatchString(p.Module) {
		return usagef("--module %q is no path of a module: want one such as example.com/%s", p.Module, p.Name)
	}
	if first, _, _ := strings.Cut(p.Module, "/"); slices.Contains(strings.Fields(takenPaths), first) {
		return usagef("%s is Go's own as the beginning of a module's path: give another with --module, such as example.com/%s", first, p.Name)
	}
	return p.checkReplace()
}

// builtinNames are those that plugins of a kind cannot have.
func builtinNames(kind string) ([]string, error) {
	switch kind {
	case "partitioner":
		return names(partitioners.All())
	case "retention":
		return names(retention.All())
	default:
		return names(compression.All())
	}
}

func names[T any](factories []core.Factory[T], err error) ([]string, error) {
	var out []string
	for _, f := range factories {
		out = append(out, f.Name)
	}
	return out, err
}

// findCheckout is the checkout that the current directory is in; empty when it is in none.
func findCheckout() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("look for a checkout of Millrace: %w", err)
	}
	for {
		if mod, err := os.ReadFile(filepath.Join(dir, "go.mod")); err == nil && strings.HasPrefix(string(mod), checkoutModule) {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", nil
		}
		dir = parent
	}
}

// installedVersion is the version as which this program was installed; empty when it was built
// from a checkout, of which nobody can tell whether it has been published.
func installedVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Sum != "" {
		return info.Main.Version
	}
	return ""
}

// checkoutModule is how the go.mod of a checkout begins.
const checkoutModule = "module github.com/millrace/millrace\n"

// checkReplace reads the checkout, if there is one.
func (p *newPlugin) checkReplace() error {
	if p.Replace == "" {
		var err error
		if p.Replace, err = findCheckout(); err != nil || p.Replace == "" {
			p.Version = installedVersion()
			return err
		}
	}
	path, err := filepath.Abs(p.Replace)
	if err != nil {
		return usagef("--replace %s: %w", p.Replace, err)
	}
	text, err := os.ReadFile(filepath.Join(path, "go.mod"))
	if err != nil {
		return usagef("--replace: want a checkout of Millrace: %w", err)
	}
	mod := string(text)
	if !strings.HasPrefix(mod, checkoutModule) {
		return usagef("--replace %s is no checkout of Millrace", p.Replace)
	}
	if m := regexp.MustCompile(`(?m)^go (\S+)$`).FindStringSubmatch(mod); m != nil {
		p.Go = m[1]
	}
	p.Requires = strings.Join(regexp.MustCompile(`(?ms)^require \(.*?^\)\n`).FindAllString(mod, -1), "\n")
	p.Replace = strconv.Quote(path)
	return nil
}

// write fills the folder, which must not be there yet or be empty.
func (p *newPlugin) write(dir string) error {
	if there, err := os.ReadDir(dir); err == nil && len(there) > 0 {
		return usagef("%s is not empty: give another --dir", dir)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return usagef("--dir: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the plugin's folder: %w", err)
	}
	all, err := template.ParseFS(scaffold, "scaffold/*.tmpl")
	if err != nil {
		return fmt.Errorf("read the templates: %w", err)
	}
	for file, from := range map[string]string{
		"main.go": p.Kind + ".go.tmpl", "main_test.go": "main_test.go.tmpl", p.Kind + "_test.go": p.Kind + "_test.go.tmpl",
		"README.md": "README.md.tmpl", "go.mod": "go.mod.tmpl",
	} {
		var out bytes.Buffer
		if err := all.ExecuteTemplate(&out, from, p); err != nil {
			return fmt.Errorf("write %s: %w", file, err)
		}
		if err := os.WriteFile(filepath.Join(dir, file), out.Bytes(), 0o644); err != nil {
			return fmt.Errorf("write the plugin: %w", err)
		}
	}
	if p.Replace == "" {
		return nil
	}
	checkout, err := strconv.Unquote(p.Replace)
	if err != nil {
		return fmt.Errorf("write go.sum: %w", err)
	}
	sums, err := os.ReadFile(filepath.Join(checkout, "go.sum"))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "go.sum"), sums, 0o644)
	}
	if err != nil {
		return fmt.Errorf("write go.sum: %w", err)
	}
	return nil
}

// next says what to do with the folder.
func (p *newPlugin) next(io streams, dir string) error {
	tidy := ""
	if p.Replace == "" {
		tidy = "  go mod tidy    # fetches Millrace; --replace CHECKOUT makes a plugin that builds against a checkout\n"
	}
	_, err := fmt.Fprintf(io.out, `Made the %s plugin %s in %s. Next:
  cd %s
%s  go test ./...
  go build -o %s .
  millrace plugins verify ./%s
README.md has the settings; main.go is what to change.
`, p.Kind, p.Name, dir, dir, tidy, p.Name, p.Name)
	return err
}
