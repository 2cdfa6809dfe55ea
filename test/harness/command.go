package harness

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
)

// Result is what a command line did.
type Result struct {
	Stdout, Stderr string
	// Code is the exit code; -1 where a signal ended it.
	Code int
}

// Millrace executes the millrace command as it is given, which may fail: the caller
// looks at the exit code.
func Millrace(ctx context.Context, t testing.TB, stdin string, args ...string) Result {
	t.Helper()
	cmd := exec.CommandContext(ctx, Binary(t), args...)
	cmd.Dir = t.TempDir()
	cmd.Stdin = strings.NewReader(stdin)
	var out, errText strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errText
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("millrace %s: %v", strings.Join(args, " "), err)
	}
	return Result{Stdout: out.String(), Stderr: errText.String(), Code: cmd.ProcessState.ExitCode()}
}

// DumpLog executes millrace dump-log on the files of partition 0 of a topic and
// returns what it printed; damage fails the test.
func (b *Broker) DumpLog(ctx context.Context, topic string, flags ...string) string {
	b.t.Helper()
	r := Millrace(ctx, b.t, "", append(append([]string{"dump-log"}, flags...), b.Dir+"/"+topic+"-0")...)
	if r.Code != 0 {
		b.t.Errorf("dump-log of %s-0: exit code %d\n%s", topic, r.Code, r.Stderr)
	}
	return r.Stdout
}

// Plugin is the settings, name=value, with which a broker runs a program as a plugin; no
// start and no call fails for a slow machine.
func Plugin(name, program string) []string {
	const patient = "=120000"
	prefix := "plugin." + name + "."
	return []string{
		prefix + "path=" + program, prefix + "start.timeout.ms" + patient, prefix + "call.timeout.ms" + patient,
		prefix + "health.interval.ms" + patient, prefix + "restart.backoff.ms=10",
	}
}
