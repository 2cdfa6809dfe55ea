package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// Exit codes, for scripts.
const (
	exitOK          = 0
	exitFailed      = 1 // the broker refused, or something went wrong
	exitUsage       = 2 // the command line or a file it names is wrong
	exitUnreachable = 3 // no broker could be reached
	exitCorrupt     = 4 // dump-log found files that are not as they should be
)

// streams are what a command has to do with outside: where it reads and writes, and how
// it is told to end. The context that it runs under ends with the first signal; what it
// has begun it may then finish, until again ends with the second one.
type streams struct {
	in       io.Reader
	out, err io.Writer
	again    context.Context //nolint:containedctx // of the process, as the streams are
}

// checked remembers the first error of a command's output, so that no command has to look
// at each line that it prints.
type checked struct {
	io.Writer
	failed error
}

func (o *checked) Write(b []byte) (int, error) {
	n, err := o.Writer.Write(b)
	if err != nil && o.failed == nil {
		o.failed = err
	}
	return n, err
}

// terminal reports whether a stream is one, so that progress lines go to people only.
func terminal(stream any) bool {
	if o, ok := stream.(*checked); ok {
		stream = o.Writer
	}
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// exitError carries an exit code.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// usagef is an error of whoever typed the command.
func usagef(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}

// run executes a command line and returns the exit code.
func run(ctx context.Context, args []string, io streams) int {
	out := &checked{Writer: io.out}
	io.out = out
	if io.again == nil {
		io.again = context.WithoutCancel(ctx)
	}
	root := newRoot(io)
	root.SetArgs(args)
	root.SetIn(io.in)
	root.SetOut(io.out)
	root.SetErr(io.err)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil && out.failed != nil {
		err = fmt.Errorf("print: %w", out.failed)
	}
	if err == nil {
		return exitOK
	}
	fmt.Fprintln(io.err, "millrace:", err)
	var coded *exitError
	switch {
	case errors.As(err, &coded):
		return coded.code
	case errors.Is(err, errUnreachable):
		return exitUnreachable
	case isUsage(err):
		fmt.Fprintf(io.err, "Try '%s --help'.\n", cmd.CommandPath())
		return exitUsage
	default:
		return exitFailed
	}
}

// newRoot builds the tree of commands.
func newRoot(io streams) *cobra.Command {
	root := &cobra.Command{
		Use:   "millrace",
		Short: "A Kafka broker that can be taken apart",
		Long: `Millrace is a Kafka broker that can be taken apart.

Without a command it starts a broker on 127.0.0.1:9092 with its data in
./millrace-data. Every other command works against any Kafka broker.

Exit codes: 0 done; 1 refused or failed; 2 wrong usage or configuration;
3 no broker reached; 4 dump-log found damage.`,
		Example: `  millrace
  millrace server server.properties --override log.dirs=/var/lib/millrace
  millrace topics create orders --partitions 3
  echo hello | millrace produce orders
  millrace consume orders --from-beginning --exit-at-end`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noCommand,
		Version:       versionText(),
	}
	root.SetVersionTemplate("{{.Version}}\n")
	server := newServer(io)
	root.RunE = func(cmd *cobra.Command, _ []string) error { return server.RunE(cmd, nil) }
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return &usageError{kafkaFlag(cmd, err)} })
	root.AddCommand(server, newTopics(io), newProduce(io), newConsume(io), newGroups(io), newConfig(io), newDumpLog(io), newPlugins(io), newVersion(io))
	root.InitDefaultHelpCmd()
	if help, _, err := root.Find([]string{"help"}); err == nil {
		help.Args = func(_ *cobra.Command, args []string) error {
			about, rest, err := root.Find(args)
			if err != nil {
				return &usageError{err}
			}
			return noCommand(about, rest)
		}
	}
	return root
}

// usageError marks errors of flags, which cobra gives no type.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func isUsage(err error) bool {
	var u *usageError
	return errors.As(err, &u)
}

// noCommand refuses what is no command of cmd, and suggests the one that was meant.
func noCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if cmd.SuggestionsMinimumDistance <= 0 {
		cmd.SuggestionsMinimumDistance = 2
	}
	hint := ""
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = fmt.Sprintf("; did you mean %q?", near[0])
	}
	return &usageError{fmt.Errorf("%s has no command %q%s", cmd.CommandPath(), args[0], hint)}
}

// group makes cmd a command that only has commands: alone it prints its help.
func group(cmd *cobra.Command) *cobra.Command {
	cmd.Args = noCommand
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	return cmd
}

// errEmpty is an argument like that of a shell's variable that was not set.
func errEmpty(name string) error { return &usageError{fmt.Errorf("%s is empty", name)} }

// atMost is cobra.MaximumNArgs with an error of usage.
func atMost(n int) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) > n {
			return &usageError{fmt.Errorf("%q is one argument too many", args[n])}
		}
		return nil
	}
}

// exactly is cobra.ExactArgs with a message that names what is missing.
func exactly(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return &usageError{fmt.Errorf("%s is missing", names[len(args)])}
		case len(args) > len(names):
			return &usageError{fmt.Errorf("%q is one argument too many", args[len(names)])}
		}
		if i := slices.Index(args, ""); i >= 0 {
			return errEmpty(names[i])
		}
		return nil
	}
}

// anyNumber wants arguments that are not empty, or none.
func anyNumber(name string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if slices.Contains(args, "") {
			return errEmpty(name)
		}
		return nil
	}
}

// atLeastOne wants one or more arguments.
func atLeastOne(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return &usageError{fmt.Errorf("%s is missing", name)}
		}
		return anyNumber(name)(cmd, args)
	}
}
