package main

import (
	"os"
	"strings"
	"testing"
)

// TestUsage: what is typed wrongly ends with exit code 2 and says what to do, without a
// broker.
func TestUsage(t *testing.T) {
	t.Parallel()
	for line, words := range map[string]string{
		"help nosuch":                               "has no command \"nosuch\"",
		"help topics lst":                           `did you mean "list"?`,
		"plugins restart":                           "PLUGIN is missing",
		"plugins inspect":                           "PROGRAM is missing",
		"plugins verify a b":                        `"b" is one argument too many`,
		"plugins list --output xml":                 "want text or json",
		"plugins inspect /bin/true --output xml":    "want text or json",
		"plugins list --timeout 0s":                 "--timeout 0s",
		"topics describe ''":                        "TOPIC is empty",
		"topics create a ''":                        "TOPIC is empty",
		"groups describe ''":                        "GROUP is empty",
		"produce ''":                                "TOPIC is empty",
		"topics list --bootstrap-server ''":         "--bootstrap-server \"\": want HOST:PORT",
		"topics list --bootstrap-server a:1,":       "want HOST:PORT",
		"topics list --timeout 0s":                  "--timeout 0s: want 100ms or more",
		"produce t --timeout -1s":                   "--timeout -1s: want 100ms or more",
		"produce t --json --parse-key":              "--json lines have key",
		"produce t --partition -7":                  "--partition -7",
		"produce t --timestamp -7":                  "--timestamp -7",
		"produce t --linger -1s":                    "--linger -1s",
		"produce t --max-request-size 0":            "--max-request-size 0",
		"consume t -n -4":                           "--max-messages -4",
		"consume t --idle-timeout -4s":              "--idle-timeout -4s",
		"consume t --since -2":                      "--since -2: want ms since 1970",
		"consume t --partition 1,-1":                "--partition -1",
		"topics create t --config a=1 --config a=2": "--config a is given twice",
		"topics --create":                           "it is a command: millrace topics create",
		"topics create --topic t":                   "the topic is an argument: millrace topics create TOPIC",
		"consume --topic t":                         "the topic is an argument: millrace consume TOPIC",
		"groups describe --group g":                 "the group is an argument: millrace groups describe [GROUP...]",
		"produce t --broker-list a:1":               "use --bootstrap-server",
		"consume t --property print.key=true":       "a flag of its own",
		"dump-log --files x":                        "the files are arguments: millrace dump-log FILE|DIR...",
		"config alter --entity-type topics":         "use --topic, --group, --broker or --broker-defaults",
		"config alter --topic t --add-config a=b":   "use --set",
		"groups list --state bogus":                 "--state bogus: want some of Stable, ",
		"groups list --type Classic,bogus":          "--type bogus",
		"--override a=b":                            "millrace server --override",
	} {
		args := strings.Fields(line)
		for i := range args {
			args[i] = strings.Trim(args[i], "'")
		}
		var out, said strings.Builder
		if code := run(t.Context(), args, streams{in: strings.NewReader(""), out: &out, err: &said}); code != exitUsage || !strings.Contains(said.String(), words) {
			t.Errorf("millrace %s: exit code %d, said %s%s without %q", line, code, out.String(), said.String(), words)
		}
	}
}

// TestPrintsNowhere: a command whose output cannot be written has failed.
func TestPrintsNowhere(t *testing.T) {
	t.Parallel()
	b := newLocal(t)
	for _, line := range []string{
		"topics create t", "topics list", "topics list --json", "topics describe t", "topics describe t --json", "topics alter t --partitions 2",
		"config describe --broker 0", "config alter --topic t --set retention.ms=1", "consume t --from-beginning -n 0", "topics delete t",
	} {
		code, said := b.run(strings.NewReader(""), full{}, strings.Fields(line)...)
		if strings.HasPrefix(line, "consume") {
			if code != exitOK { // prints nothing
				t.Errorf("millrace %s: exit code %d: %s", line, code, said)
			}
		} else if code != exitFailed || !strings.Contains(said, errFull.Error()) {
			t.Errorf("millrace %s: exit code %d: %s", line, code, said)
		}
	}
	for _, line := range []string{"version", "--version", "--help", "topics"} {
		var said strings.Builder
		if code := run(t.Context(), strings.Fields(line), streams{in: strings.NewReader(""), out: full{}, err: &said}); code != exitFailed {
			t.Errorf("millrace %s: exit code %d: %s", line, code, said.String())
		}
	}
}

// TestVersion: as a command and as the flag that Kafka's tools have.
func TestVersion(t *testing.T) {
	t.Parallel()
	for _, arg := range []string{"version", "--version"} {
		var out strings.Builder
		if code := run(t.Context(), []string{arg}, streams{in: os.Stdin, out: &out, err: os.Stderr}); code != exitOK || out.String() != versionText()+"\n" {
			t.Errorf("%s: exit code %d: %s", arg, code, out.String())
		}
	}
}
