package clients_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// javaVersions are of kafka-clients: the last of the 2.x that are still met often,
// the last before 4.0, and the newest.
func javaVersions() []string { return []string{"2.8.2", "3.9.1", "4.2.0"} }

func javaClient(t *testing.T, version string) client {
	c := newJava(t, version)
	return client{
		name: "Java kafka-clients", version: version, needs: []string{"mvn", "javac", "java"}, codecs: allCodecs(),
		produce: c.produce, consume: c.consume,
	}
}

func newJava(t *testing.T, version string) *child {
	return newChild(t, func() (*exec.Cmd, error) {
		classPath, err := buildJava(version)
		if err != nil {
			return nil, err
		}
		return exec.Command("java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", classPath, "millrace.Client"), nil
	})
}

// javaBuild: two Mavens at a time would fetch the same files twice.
var javaBuild sync.Mutex

// buildJava fetches a version of the client, unless an earlier run has, and compiles
// test/java. It returns the class path.
func buildJava(version string) (string, error) {
	return compileJava("kafka-clients", version, "src/main/java/millrace/Client.java")
}

// compileJava is buildJava for any sources of test/java and any artifact of Kafka's.
func compileJava(artifact, version string, sources ...string) (string, error) {
	javaBuild.Lock()
	defer javaBuild.Unlock()
	root, err := filepath.Abs("../java")
	if err != nil {
		return "", err
	}
	lib := filepath.Join(root, "target", "lib-"+version)
	if _, err := os.Stat(filepath.Join(lib, "complete")); err != nil {
		if err := fetchJava(root, lib, artifact, version); err != nil {
			return "", err
		}
	}
	classes := filepath.Join(root, "target", "classes-"+version)
	if err := os.MkdirAll(classes, 0o755); err != nil {
		return "", err
	}
	args := []string{"-nowarn", "-d", classes, "-cp", lib + "/*"}
	for _, s := range sources {
		args = append(args, filepath.Join(root, s))
	}
	compile := exec.Command("javac", args...)
	if out, err := compile.CombinedOutput(); err != nil {
		return "", fmt.Errorf("javac: %w\n%s", err, out)
	}
	return classes + string(os.PathListSeparator) + lib + "/*", nil
}

// fetchJava tries Maven's own store first, and the network when that is not enough.
func fetchJava(root, lib, artifact, version string) error {
	var failed error
	for _, online := range []bool{false, true} {
		args := []string{
			"-q", "-B", "-f", filepath.Join(root, "pom.xml"), "dependency:copy-dependencies",
			"-DincludeScope=runtime", "-Dkafka.artifact=" + artifact, "-Dkafka.version=" + version, "-DoutputDirectory=" + lib,
		}
		if !online {
			args = append(args, "-o")
		}
		out, err := exec.Command("mvn", args...).CombinedOutput()
		if err == nil {
			return os.WriteFile(filepath.Join(lib, "complete"), nil, 0o644)
		}
		failed = fmt.Errorf("mvn cannot fetch %s %s: %w\n%s", artifact, version, err, out)
	}
	return failed
}
