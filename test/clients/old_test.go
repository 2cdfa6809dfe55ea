package clients_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/test/harness"
)

// Clients from before Kafka 0.11, and those from before zstd. What they send and read
// of magic 0 and 1 is converted from and to batches, in which the others see what they
// wrote: without headers, and, with magic 0, without a time.

// oldCodecs are those of Kafka before 2.1.
func oldCodecs() []string { return []string{"none", "gzip", "snappy", "lz4"} }

// noHeaders is what magic 1 leaves of a message, noTime what magic 0 does.
func noHeaders(m *message) { m.Headers = nil }

func noTime(m *message) { m.Headers, m.Time = nil, -1 }

// environment is for the programs: PATIENCE is for how many seconds they wait.
func oldClients(t *testing.T, environment ...string) []client {
	java := []string{"mvn", "javac", "java"}
	clients := []client{{
		name: "Java producer, SimpleConsumer", version: "0.8.2.2", needs: java, note: "magic 0: no time, no headers",
		codecs: oldCodecs(), reads: oldCodecs(), untimed: true, says: noTime, shows: noTime,
	}, {
		name: "Java kafka-clients", version: "0.9.0.1", needs: java, note: "magic 0: no time, no headers",
		codecs: oldCodecs(), reads: oldCodecs(), untimed: true, says: noTime, shows: noTime,
	}, {
		name: "Java kafka-clients", version: "0.10.2.2", needs: java, note: "magic 1: no headers",
		codecs: oldCodecs(), reads: oldCodecs(), says: noHeaders, shows: noHeaders,
	}, {
		name: "Java kafka-clients", version: "1.1.1", needs: java, codecs: oldCodecs(), reads: oldCodecs(),
	}}
	for i := range clients {
		c := &clients[i]
		artifact, program := "kafka-clients", "OldClient"
		if i == 0 {
			artifact, program = "kafka_2.11", "OldestClient"
		}
		p := newChild(t, func() (*exec.Cmd, error) {
			cmd, err := oldJava(artifact, c.version, program)
			if err == nil {
				cmd.Env = append(os.Environ(), environment...)
			}
			return cmd, err
		})
		c.produce, c.consume = p.produce, p.consume
	}
	return append(clients, kafkaPython(t))
}

// oldSources are those of a program.
func oldSources(program string) []string {
	names := []string{"Commands.java", program + ".java"}
	if program == "OldClient" {
		names = append(names, "OldMember.java")
	}
	for i, n := range names {
		names[i] = "src/old/java/millrace/" + n
	}
	return names
}

// oldJava prepares a program of test/java/src/old with a version of Kafka's clients.
func oldJava(artifact, version, program string, args ...string) (*exec.Cmd, error) {
	classPath, err := compileJava(artifact, version, oldSources(program)...)
	if err != nil {
		return nil, err
	}
	return exec.Command("java", append([]string{
		"-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", classPath, "millrace." + program,
	}, args...)...), nil
}

// oldPythonVersion is the kafka-python under test. Its sources do not compile on
// Python 3.7 and later, of which async is a keyword.
const oldPythonVersion = "1.3.4"

// pythonPackages are that client with its codecs, as of its time.
func pythonPackages() []string {
	return []string{"kafka-python==" + oldPythonVersion, "python-snappy==0.6.1", "lz4tools==1.3.1.2", "xxhash==2.0.2"}
}

// oldPython finds Python 3.6: by name, or as pyenv has installed it. It answers a name
// that is not there where there is none.
func oldPython() string {
	const name = "python3.6"
	// pyenv's shims are there for every version, and fail for those not chosen.
	if path, err := exec.LookPath(name); err == nil && !strings.Contains(path, "/shims/") {
		return path
	}
	root := os.Getenv("PYENV_ROOT")
	if root == "" {
		root = filepath.Join(os.Getenv("HOME"), ".pyenv")
	}
	found, err := filepath.Glob(filepath.Join(root, "versions", "3.6.*", "bin", "python"))
	if err != nil || len(found) == 0 {
		return "Python 3.6"
	}
	return found[len(found)-1]
}

// oldPythonCommand prepares test/python/old_client.py.
func oldPythonCommand(python string, args ...string) (*exec.Cmd, error) {
	lib, err := pythonLib(python)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(python, append([]string{"../python/old_client.py"}, args...)...)
	cmd.Env = append(os.Environ(), "PYTHONPATH="+lib)
	return cmd, nil
}

func kafkaPython(t *testing.T) client {
	python := oldPython()
	p := newChild(t, func() (*exec.Cmd, error) { return oldPythonCommand(python) })
	return client{
		name: "kafka-python", version: oldPythonVersion, needs: []string{python}, note: "magic 1: no headers; lz4 in blocks as 1.4 writes them",
		codecs: oldCodecs(), reads: oldCodecs(), says: noHeaders, shows: noHeaders,
		produce: p.produce, consume: p.consume,
	}
}

var pythonBuild sync.Mutex

// pythonLib installs the client, unless an earlier run has, and returns its folder. A
// pip of its own comes first: those that came with these Pythons do not find the
// packages that need no compiler.
func pythonLib(python string) (string, error) {
	pythonBuild.Lock()
	defer pythonBuild.Unlock()
	root, err := filepath.Abs("../python/target")
	if err != nil {
		return "", err
	}
	lib, pip := filepath.Join(root, "lib"), filepath.Join(root, "pip")
	if _, err := os.Stat(filepath.Join(lib, "complete")); err == nil {
		return lib, nil
	}
	run := func(path string, args ...string) error {
		cmd := exec.Command(python, append([]string{"-m", "pip", "install", "-q", "--no-cache-dir", "--target"}, args...)...)
		cmd.Env = append(os.Environ(), "PYTHONPATH="+path)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("pip install %s: %w\n%s", strings.Join(args, " "), err, out)
		}
		return nil
	}
	if err := run("", pip, "pip<21"); err != nil {
		return "", err
	}
	if err := run(pip, append([]string{lib}, pythonPackages()...)...); err != nil {
		return "", err
	}
	return lib, os.WriteFile(filepath.Join(lib, "complete"), nil, 0o644)
}

// Consumers that cannot be given what they ask for are told so, instead of getting
// bytes that they cannot read: of zstd where it has to be converted; of a topic whose
// own codec is zstd in every version before Fetch 10; of anything that needs
// conversion where that is off. SimpleConsumer shows the error code; others may take
// it for one that passes, and wait.
func TestOldConsumersAreTold(t *testing.T) {
	t.Parallel()
	b := harness.Start(t)
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	sent := testMessages(1, time.Now())[60:90]
	const unsupportedVersion, unsupportedCompression = "35", "76"
	for _, topic := range []struct{ name, config, codec string }{
		{"zstd-sent", "", "zstd"},
		{"zstd-topic", "compression.type=zstd", "none"},
		{"not-converted", "message.downconversion.enable=false", "none"},
	} {
		args := []string{"topics", "create", topic.name, "--partitions", "1"}
		if topic.config != "" {
			args = append(args, "--config", topic.config)
		}
		if _, err := b.Run(ctx, "", args...); err != nil {
			t.Fatal(err)
		}
		f := franz()
		if err := f.produce(ctx, b.Addr, topic.name, topic.codec, sent); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range oldClients(t, "PATIENCE=3") {
		consume := func(topic string) ([]message, error) {
			harness.Need(t, c.needs...)
			return c.consume(ctx, b.Addr, topic, len(sent))
		}
		switch c.version {
		case "0.8.2.2":
			for topic, code := range map[string]string{"zstd-sent": unsupportedCompression, "zstd-topic": unsupportedCompression, "not-converted": unsupportedVersion} {
				if got, err := consume(topic); err == nil || !strings.Contains(err.Error(), "error code "+code) || len(got) > 0 {
					t.Errorf("%s: %s got %d messages, %v; want error code %s", topic, c.id(), len(got), err, code)
				}
			}
		case "0.10.2.2":
			for _, topic := range []string{"zstd-sent", "zstd-topic", "not-converted"} {
				if got, err := consume(topic); err == nil || len(got) > 0 {
					t.Errorf("%s: %s got %d messages, %v; want an error", topic, c.id(), len(got), err)
				}
			}
		case "1.1.1":
			if got, err := consume("zstd-topic"); err == nil || len(got) > 0 {
				t.Errorf("zstd-topic: %s got %d messages, %v; want an error", c.id(), len(got), err)
			}
			if got, err := consume("not-converted"); err != nil || difference(sent, got) != "" {
				t.Errorf("not-converted: %s needs no conversion: %v, %s", c.id(), err, difference(sent, got))
			}
		}
	}
}
