package controller_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/controller"
	"github.com/millrace/millrace/core/tree"
)

// TestScenarios plays the stories in testdata/scenarios: a line that begins with
// "> " is a command, the lines after it are what comes of it, others are prose.
// With MILLRACE_UPDATE=1 the results are written anew.
func TestScenarios(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/scenarios/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			in(t, 0, func(t *testing.T, c *cluster) {
				tool := c.session()
				defer closing(t, tool)
				got := (&story{c, tool}).play(string(want))
				if os.Getenv("MILLRACE_UPDATE") != "" {
					if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				if d := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); d != "" {
					t.Errorf("%s (-want +got):\n%s", file, d)
				}
			})
		})
	}
}

func closing(t testing.TB, s core.CoordinatorSession) {
	t.Helper()
	if err := s.Close(); err != nil && !errors.Is(err, core.ErrSessionLost) {
		t.Error(err)
	}
}

type story struct {
	c    *cluster
	tool core.CoordinatorSession
}

// play runs the commands of a text and answers it with their results.
func (s *story) play(text string) string {
	var out strings.Builder
	result := false // the lines are a result, to be left out
	for line := range strings.SplitSeq(strings.TrimSuffix(text, "\n"), "\n") {
		command, is := strings.CutPrefix(line, "> ")
		if line == "" {
			result = false
		}
		if !is && result {
			continue
		}
		out.WriteString(line + "\n")
		if !is {
			continue
		}
		result = true
		synctest.Wait()
		if r := s.do(strings.Fields(command)); r != "" {
			out.WriteString(strings.TrimSuffix(r, "\n") + "\n")
		}
		synctest.Wait()
	}
	return out.String()
}

func (s *story) do(f []string) string {
	args := map[string]string{}
	var name string
	for _, a := range f[1:] {
		if k, v, ok := strings.Cut(a, "="); ok {
			args[k] = v
		} else if name == "" {
			name = a
		} else {
			name += " " + a
		}
	}
	switch f[0] {
	case "start":
		for _, id := range ids(name) {
			s.c.start(id)
			synctest.Wait()
		}
		return ""
	case "stop":
		s.c.stop(ids(name)[0])
		return ""
	case "expire":
		return s.expire(ids(name)[0])
	case "wait":
		d, err := time.ParseDuration(name)
		time.Sleep(d)
		return outcome(err)
	case "controller":
		return s.controller()
	case "epoch":
		_, epoch, _ := strings.Cut(s.controller(), " in ")
		return epoch
	case "topic":
		return s.topic(name)
	case "holds":
		return s.holds(ids(name)[0])
	case "write":
		return s.write(name, args)
	case "remove":
		_, err := s.tool.Commit(context.Background(), core.Delete(name, core.AnyVersion))
		return outcome(err)
	}
	ctl := s.c.leader()
	if ctl == nil {
		return "there is no controller"
	}
	return s.ask(ctl.ctl, f[0], name, args)
}

// ask is what clients and brokers ask of the controller.
func (s *story) ask(ctl *controller.Controller, what, name string, args map[string]string) string {
	ctx := within(s.c.t, 10*time.Second)
	tp := core.TopicPartition{Topic: name, Partition: int32(number(args["partition"]))}
	switch what {
	case "create":
		n := controller.NewTopic{Name: name, Partitions: -1, ReplicationFactor: -1}
		for replicas := range strings.SplitSeq(args["on"], ";") {
			n.Assignment = append(n.Assignment, ids(strings.ReplaceAll(replicas, ",", " ")))
		}
		if v, ok := args["unclean"]; ok {
			n.Configs = map[string]string{"unclean.leader.election.enable": v}
		}
		return outcome(ctl.CreateTopics(ctx, []controller.NewTopic{n}, false)[0].Err)
	case "delete":
		return outcome(ctl.DeleteTopics(ctx, []controller.TopicRef{{Name: name}})[0].Err)
	case "grow":
		return outcome(ctl.CreatePartitions(ctx, []controller.NewPartitions{{Topic: name, Count: int32(number(args["to"]))}}, false)[0].Err)
	case "shutdown":
		left, err := ctl.Shutdown(ctx, ids(name)[0], -1)
		if err != nil {
			return outcome(err)
		}
		return fmt.Sprintf("still leading: %v", left)
	case "isr":
		st, err := ctl.AlterISR(ctx, controller.ISRChange{
			TopicPartition: tp, Broker: int32(number(args["by"])), LeaderEpoch: int32(number(args["leader_epoch"])),
			PartitionEpoch: int32(number(args["partition_epoch"])), ISR: ids(strings.ReplaceAll(args["isr"], ",", " ")),
		})
		if err != nil {
			return outcome(err)
		}
		return fmt.Sprintf("isr %v, partition epoch %d", st.ISR, st.PartitionEpoch)
	case "alter":
		change := controller.ConfigChange{Name: args["name"], Op: controller.ConfigSet}
		if v, ok := args["value"]; ok {
			change.Value = &v
		} else {
			change.Op = controller.ConfigDelete
		}
		return outcome(ctl.AlterConfigs(ctx, []controller.ConfigAlteration{
			{Type: controller.TopicResource, Name: name, Changes: []controller.ConfigChange{change}},
		}, false)[0])
	default:
		return "no such command"
	}
}

func (s *story) expire(id int32) string {
	node, err := s.tool.Get(context.Background(), tree.BrokerPath(id))
	if err != nil {
		return outcome(err)
	}
	return outcome(s.c.coord.Expire(node.Stat.EphemeralOwner))
}

func (s *story) controller() string {
	b := s.c.leader()
	if b == nil {
		return "there is no controller"
	}
	epoch, _ := b.ctl.Leading()
	return fmt.Sprintf("broker %d in epoch %d", b.id, epoch)
}

// topic shows what the tree and every live broker's metadata have of a topic.
func (s *story) topic(name string) string {
	ctx := context.Background()
	node, err := s.tool.Get(ctx, tree.TopicPath(name))
	if err != nil {
		return "no such topic" + s.metadata(name, nil)
	}
	t, err := tree.DecodeTopic(node.Data)
	if err != nil {
		return outcome(err)
	}
	var lines []string
	for p := range int32(len(t.Replicas)) {
		line := fmt.Sprintf("%d on %v: no state", p, t.Replicas[p])
		if node, err := s.tool.Get(ctx, tree.PartitionStatePath(name, p)); err == nil {
			st, err := tree.DecodePartitionState(node.Data)
			if err != nil {
				return outcome(err)
			}
			line = fmt.Sprintf("%d on %v: leader %d in %d, isr %v, partition epoch %d", p, t.Replicas[p], st.Leader, st.LeaderEpoch, st.ISR, node.Stat.Version)
			if st.Recovering {
				line += ", recovering"
			}
		}
		lines = append(lines, line)
	}
	id := ""
	if t.ID.IsZero() {
		id = "\nwithout an id"
	}
	return strings.Join(lines, "\n") + id + s.metadata(name, lines)
}

// metadata says which live brokers know a topic otherwise than the tree has it.
func (s *story) metadata(name string, want []string) string {
	var out string
	for id := range int32(len(s.c.brokers)) {
		b := s.c.broker(id)
		if get(b, func() bool { return b.down }) {
			continue
		}
		var got []string
		if t, ok := b.meta.Current().Topic(name); ok {
			for i, p := range t.Partitions {
				got = append(got, fmt.Sprintf("%d on %v: leader %d in %d, isr %v, partition epoch %d", i, p.Replicas, p.Leader, p.LeaderEpoch, p.ISR, p.PartitionEpoch))
			}
		}
		same := len(got) == len(want)
		for i := range got {
			same = same && strings.HasPrefix(want[i], got[i])
		}
		if !same {
			out += fmt.Sprintf("\nbut broker %d knows %q", id, got)
		}
	}
	return out
}

func (s *story) holds(id int32) string {
	b := s.c.broker(id)
	b.mu.Lock()
	defer b.mu.Unlock()
	var lines []string
	for tp, h := range b.parts {
		role := "follows " + strconv.Itoa(int(h.state.Leader))
		if h.state.Leader == id {
			role = "leads"
		}
		lines = append(lines, fmt.Sprintf("%s: %s in %d", tp, role, h.state.LeaderEpoch))
	}
	slices.Sort(lines)
	return strings.Join(append(lines, fmt.Sprintf("%d replicas removed so far", b.removed)), "\n")
}

// write has a tool write to the tree.
func (s *story) write(path string, args map[string]string) string {
	_, err := s.tool.Commit(context.Background(), core.Create(path, []byte(args["data"])))
	if errors.Is(err, core.ErrNodeExists) {
		_, err = s.tool.Commit(context.Background(), core.Set(path, []byte(args["data"]), core.AnyVersion))
	}
	return outcome(err)
}

func outcome(err error) string {
	if err == nil {
		return "ok"
	}
	code, message := core.KafkaCode(err)
	return fmt.Sprintf("error %d: %s", code, message)
}

func ids(s string) []int32 {
	var out []int32
	for _, f := range strings.Fields(s) {
		out = append(out, int32(number(f)))
	}
	return out
}

func number(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		return 0
	}
	return n
}
