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
	"slices"
	"strconv"
	"strings"
	"text/template"

	"github.com/spf13/cobra"
)

//go:embed scaffold/*.tmpl
var scaffold embed.FS

// pluginKinds are what the scaffold has a main.go for.
func pluginKinds() []string { return []string{"partitioner", "retention", "compression"} }

// newPlugin is what the templates are filled with.
type newPlugin struct {
	Kind, Name, Module string
	// Go is the version of the language. Replace is a checkout of Millrace and Requires what
	// its go.mod requires; both are empty without one.
	Go, Replace, Requires string
}

func pluginsNew(io streams) *cobra.Command {
	var dir string
	p := newPlugin{Go: "1.26.0"}
	cmd := &cobra.Command{
		Use: "new partitioner|retention|compression NAME", Short: "Make a folder with a plugin that builds and passes its tests",
		Args: cobra.ExactArgs(2),
		Long: `Writes a Go module with a program, its test and a README, for you to change. With
--replace it builds against a checkout of Millrace; without, say go mod tidy in it.`,
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
			fmt.Fprintf(io.out, "%s\n", dir)
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "folder to make (default NAME)")
	cmd.Flags().StringVar(&p.Module, "module", "", "path of the Go module (default NAME)")
	cmd.Flags().StringVar(&p.Replace, "replace", "", "checkout of Millrace to build against")
	return cmd
}

// pluginName is what is good in the name of a setting, of a folder and of a program.
var pluginName = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)

// check looks at the arguments and reads the checkout.
func (p *newPlugin) check() error {
	if !slices.Contains(pluginKinds(), p.Kind) {
		return usagef("%s: want one of %s", p.Kind, strings.Join(pluginKinds(), ", "))
	}
	if !pluginName.MatchString(p.Name) {
		return usagef("%s: want a name of lower-case letters, digits and dashes that begins with a letter", p.Name)
	}
	if p.Module == "" {
		p.Module = p.Name
	}
	if strings.ContainsAny(p.Module, " \t\n\"`") {
		return usagef("--module %q is no path of a module", p.Module)
	}
	if p.Replace == "" {
		return nil
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
	if !strings.HasPrefix(mod, "module github.com/millrace/millrace\n") {
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
		"main.go": p.Kind + ".go.tmpl", "main_test.go": "main_test.go.tmpl", "README.md": "README.md.tmpl", "go.mod": "go.mod.tmpl",
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
