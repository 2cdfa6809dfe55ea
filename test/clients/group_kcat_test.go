package clients_test

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
)

// kcatGroup is kcat -G. It commits by itself, ten times a second and when it loses
// partitions, and says nothing of it.
func kcatGroup() groupClient {
	return groupClient{
		name: "kcat", version: kcatVersion(), needs: []string{"kcat"}, codecs: allCodecs(), silent: true,
		assignor: "range", bySignal: true, send: kcatSend, member: kcatMember,
	}
}

// kcatSend needs one kcat a partition, which is all that it can be told.
func kcatSend(ctx context.Context, addr, topic, codec string, first, n int) error {
	for p := range groupPartitions {
		var in bytes.Buffer
		for i := first; i < first+n; i++ {
			if i%groupPartitions == p {
				in.WriteString(groupValue(i) + "\n")
			}
		}
		cmd := exec.CommandContext(ctx, "kcat", "-P", "-b", addr, "-t", topic, "-p", fmt.Sprint(p), "-z", codec)
		cmd.Stdin = &in
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("kcat -P: %w\n%s", err, out)
		}
	}
	return nil
}

func kcatMember(addr, group, topic string) (*exec.Cmd, error) {
	args := []string{"-b", addr, "-u", "-q", "-f", `record\t%p\t%o\t%s\n`}
	for _, x := range []string{
		"auto.offset.reset=earliest", "auto.commit.interval.ms=100",
		fmt.Sprint("session.timeout.ms=", groupSession.Milliseconds()), fmt.Sprint("heartbeat.interval.ms=", groupHeartbeat.Milliseconds()),
		fmt.Sprint("fetch.wait.max.ms=", maxWait.Milliseconds()),
	} {
		args = append(args, "-X", x)
	}
	return exec.Command("kcat", append(args, "-G", group, topic)...), nil
}
