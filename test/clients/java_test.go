package clients_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// javaVersions are of kafka-clients: the last of the 2.x that are still met often,
// the last before 4.0, and the newest.
func javaVersions() []string { return []string{"2.8.2", "3.9.1", "4.4.0"} }

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
		return javaCommand(classPath), nil
	})
}

// javaCommand runs the program in a small virtual machine.
func javaCommand(classPath string, args ...string) *exec.Cmd {
	return exec.Command("java", append([]string{
		"-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", classPath, "millrace.Client",
	}, args...)...)
}

// javaBuild: two Mavens at a time would fetch the same files twice.
var javaBuild sync.Mutex

// buildJava fetches a version of the client, unless an earlier run has, and compiles
// test/java. It returns the class path.
func buildJava(version string) (string, error) {
	return compileJava("kafka-clients", version, "src/main/java/millrace/Client.java", "src/main/java/millrace/Member.java")
}

// compileJava is buildJava for any sources of test/java and any artifact of Kafka's.
// What has not changed since an earlier run is left alone.
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
	args := []string{"-nowarn", "-d", classes, "-cp", lib + "/*"}
	var text []byte
	for _, s := range sources {
		t, err := os.ReadFile(filepath.Join(root, s))
		if err != nil {
			return "", err
		}
		args, text = append(args, filepath.Join(root, s)), append(text, t...)
	}
	classPath := classes + string(os.PathListSeparator) + lib + "/*"
	marker := filepath.Join(classes, "compiled") // has what was compiled
	if done, err := os.ReadFile(marker); err == nil && bytes.Equal(done, text) {
		return classPath, nil
	}
	if err := os.MkdirAll(classes, 0o755); err != nil {
		return "", err
	}
	if out, err := exec.Command("javac", args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("javac: %w\n%s", err, out)
	}
	return classPath, os.WriteFile(marker, text, 0o644)
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
