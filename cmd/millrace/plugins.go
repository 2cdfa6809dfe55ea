package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/config"
	"github.com/millrace/millrace/plugins/host"
)

func newPlugins(io streams) *cobra.Command {
	at := &httpAt{}
	cmd := &cobra.Command{
		Use: "plugins", Short: "List, restart and reload a broker's plugins; inspect, verify and begin programs",
		Long: `list, restart and reload talk to a running broker over its http.listener.
inspect and verify start a program by themselves, ask it and end it. new writes one.`,
		Example: `  millrace plugins list
  millrace plugins inspect /opt/millrace/plugins/regions
  millrace plugins verify /opt/millrace/plugins/regions --settings server.properties
  millrace plugins reload regions`,
	}
	cmd.AddCommand(
		pluginsList(io, at), pluginsInspect(io), pluginsVerify(io), pluginsNew(io),
		pluginsAsk(io, at, "restart", "Start a plugin's process anew, also one that has failed too often"),
		pluginsAsk(io, at, "reload", "Let the program that is now at the plugin's path take over, when it is good"),
	)
	return group(cmd)
}

// httpAt is where a broker's http.listener is.
type httpAt struct {
	addr    string
	timeout time.Duration
}

func (h *httpAt) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&h.addr, "http", "127.0.0.1:9644", "HOST:PORT of the broker's http.listener")
	cmd.Flags().DurationVar(&h.timeout, "timeout", time.Minute, "how long the broker may take to answer")
}

// ask makes a request and reads how the plugins do.
func (h *httpAt) ask(ctx context.Context, method, path string) ([]host.Status, error) {
	if h.timeout <= 0 {
		return nil, usagef("--timeout %s: want more than nothing", h.timeout)
	}
	ctx, cancel := context.WithTimeout(ctx, h.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+h.addr+path, nil)
	if err != nil {
		return nil, usagef("--http %s: want HOST:PORT: %w", h.addr, err)
	}
	resp, err := http.DefaultClient.Do(req)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return nil, fmt.Errorf("the broker has not answered in the %s of --timeout: %w", h.timeout, err)
	case err != nil:
		return nil, fmt.Errorf("%w at http://%s (is it running? --http names its http.listener): %w", errUnreachable, h.addr, err)
	}
	defer func() { _ = resp.Body.Close() }() // only read
	const most = 16 << 20
	body, err := io.ReadAll(io.LimitReader(resp.Body, most))
	if err != nil {
		return nil, fmt.Errorf("read the broker's answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		var failure struct {
			Error string `json:"error"`
		}
		if json.Unmarshal(body, &failure) == nil && failure.Error != "" {
			return nil, errors.New(failure.Error)
		}
		if resp.StatusCode == http.StatusNotFound {
			return nil, errors.New("the broker has no plugins: it was started without plugin.NAME.path and plugins.dir")
		}
		return nil, fmt.Errorf("the broker answered %s: %s", resp.Status, bytes.TrimSpace(body))
	}
	var list []host.Status
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, fmt.Errorf("read the broker's answer: %w", err)
	}
	return list, nil
}

// format is the value of --output.
type format string

const (
	textFormat format = "text"
	jsonFormat format = "json"
)

// String implements pflag.Value.
func (f *format) String() string { return string(*f) }

// Type implements pflag.Value.
func (f *format) Type() string { return "string" }

// Set implements pflag.Value.
func (f *format) Set(s string) error {
	if *f = format(s); *f != textFormat && *f != jsonFormat {
		return errors.New("want text or json")
	}
	return nil
}

func (f *format) flag(cmd *cobra.Command) {
	*f = textFormat
	cmd.Flags().Var(f, "output", "text or json")
}

func pluginsList(io streams, at *httpAt) *cobra.Command {
	var output format
	cmd := &cobra.Command{
		Use: "list", Short: "Show how a broker's plugins do", Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := at.ask(cmd.Context(), http.MethodGet, "/plugins")
			if err != nil {
				return err
			}
			if output == jsonFormat {
				return printJSON(io, list)
			}
			return printPlugins(io, list)
		},
	}
	at.flags(cmd)
	output.flag(cmd)
	return cmd
}

func printJSON[T any](io streams, v T) error {
	enc := json.NewEncoder(io.out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func printPlugins(io streams, list []host.Status) error {
	w := tabwriter.NewWriter(io.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PLUGIN\tSTATE\tPID\tPROGRAM\tOFFERS\tRESTARTS\tCALLS\tFAILED\tBUILT-IN")
	for _, s := range list {
		var offers []string
		for _, c := range s.Components {
			offer := c.Seam + " " + c.Name
			if c.BreakerOpen {
				offer += " (left alone: the built-in does its work)"
			}
			offers = append(offers, offer)
		}
		pid := "-"
		if s.PID != 0 {
			pid = fmt.Sprint(s.PID)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s %s\t%s\t%d\t%d\t%d\t%d\n", s.Name, s.State, pid, s.Program, s.Version,
			strings.Join(offers, ", "), s.Restarts, s.Calls, s.Failures, s.Fallbacks)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, s := range list {
		if s.LastError != "" {
			fmt.Fprintf(io.out, "\n%s: %s\n", s.Name, s.LastError)
		}
	}
	return nil
}

func pluginsAsk(io streams, at *httpAt, what, short string) *cobra.Command {
	cmd := &cobra.Command{
		Use: what + " PLUGIN", Short: short, Args: exactly("PLUGIN"),
		RunE: func(cmd *cobra.Command, args []string) error {
			list, err := at.ask(cmd.Context(), http.MethodPost, "/plugins/"+url.PathEscape(args[0])+"/"+what)
			if err != nil {
				return err
			}
			return printPlugins(io, list)
		},
	}
	at.flags(cmd)
	return cmd
}

func pluginsInspect(io streams) *cobra.Command {
	var output format
	cmd := &cobra.Command{
		Use: "inspect PROGRAM", Short: "Start a program and show what it offers", Args: exactly("PROGRAM"),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := inspect(cmd.Context(), io, args[0], nil)
			if err != nil {
				return err
			}
			if output == jsonFormat {
				return printJSON(io, d)
			}
			return printDescription(io, d)
		},
	}
	output.flag(cmd)
	return cmd
}

// inspect starts a program and asks it. What it prints goes to standard error.
func inspect(ctx context.Context, io streams, path string, settings map[string]string) (host.Description, error) {
	spec, err := host.DefaultSpec("program", path)
	if err != nil {
		return host.Description{}, err
	}
	log := slog.New(slog.NewTextHandler(io.err, &slog.HandlerOptions{Level: slog.LevelInfo}))
	d, err := host.Inspect(ctx, spec, func(name string) (string, bool) { v, ok := settings[name]; return v, ok }, log)
	if errors.Is(err, core.ErrInvalidConfig) {
		return d, &exitError{exitUsage, err}
	}
	return d, err
}

func printDescription(io streams, d host.Description) error {
	fmt.Fprintf(io.out, "%s %s\npath    %s\nsha256  %s\n", d.Program, d.Version, d.Path, d.SHA256)
	for _, c := range d.Components {
		fmt.Fprintf(io.out, "\n%s %s: %s\n", c.Seam, c.Name, c.Doc)
		if c.Codec != "" {
			fmt.Fprintf(io.out, "  codec %s\n", c.Codec)
		}
		if len(c.Capabilities) > 0 {
			fmt.Fprintf(io.out, "  can   %s\n", strings.Join(c.Capabilities, ", "))
		}
		for _, s := range c.Settings {
			fmt.Fprintf(io.out, "  %s=%s (%s)  %s\n", s.Name, s.Default, s.Type, s.Doc)
		}
	}
	return nil
}

func pluginsVerify(io streams) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "verify PROGRAM", Short: "Check that a program is a plugin that a broker could use", Args: exactly("PROGRAM"),
		Long: `Starts the program as a broker would, asks what it offers, and has it check its
settings: those of --settings, and the defaults otherwise. Prints the line that pins
its checksum. Exit code 2 when a broker could not use it.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var settings map[string]string
			if file != "" {
				var err error
				if settings, err = config.Peek(config.Sources{File: file}); err != nil {
					return usagef("%w", err)
				}
			}
			d, err := inspect(cmd.Context(), io, args[0], settings)
			if err != nil {
				return err
			}
			var problems []error
			for _, c := range d.Components {
				for _, p := range c.Problems {
					problems = append(problems, fmt.Errorf("%s %s: %s", c.Seam, c.Name, p))
				}
			}
			if err := errors.Join(problems...); err != nil && file == "" {
				return &exitError{exitUsage, fmt.Errorf("the program refuses its settings, which are the defaults without --settings:\n%w", err)}
			} else if err != nil {
				return &exitError{exitUsage, fmt.Errorf("the program refuses its settings:\n%w", err)}
			}
			for _, c := range d.Components {
				fmt.Fprintf(io.out, "ok  %s %s\n", c.Seam, c.Name)
			}
			fmt.Fprintf(io.out, "plugin.NAME.sha256=%s\n", d.SHA256)
			return nil
		},
	}
	cmd.Flags().StringVar(&file, "settings", "", "server.properties with the plugin's settings")
	return cmd
}
