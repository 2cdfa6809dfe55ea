package clients_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// A member of a group is a program: it can be killed. It prints what it reads, and
// then what it has committed, as soon as it has:
//
//	record <tab> PARTITION <tab> OFFSET <tab> VALUE
//	committed <tab> PARTITION <tab> NEXT OFFSET
//
// Where a commit fails, because the group rebalances or the member is not one any more,
// it prints "failed" and goes on. It leaves its group and ends when its standard input does.
//
// A member that is slow waits in between, MEMBER_PAUSE milliseconds at least once for what
// it gets at a time: longer than from one heartbeat to the next, so that partitions are
// taken from it while it holds records of theirs.

// pauseEnv is the variable that makes a member slow.
const pauseEnv = "MEMBER_PAUSE"

// member is one that runs.
type member struct {
	name     string
	client   *groupClient
	ledger   *ledger
	cmd      *exec.Cmd
	in       io.Closer
	stderr   bytes.Buffer
	dead     atomic.Bool // it was killed, or told to leave
	done     chan struct{}
	err      error // of what it printed, or of its end; written before done is closed
	killOnce sync.Once
}

func startMember(ctx context.Context, t *testing.T, c *groupClient, name string, pause time.Duration, addr, group, topic string, l *ledger) (*member, error) {
	t.Helper()
	cmd, err := c.member(addr, group, topic)
	if err != nil {
		return nil, err
	}
	if pause > 0 {
		cmd.Env = append(cmd.Environ(), fmt.Sprint(pauseEnv, "=", pause.Milliseconds()))
	}
	m := &member{name: name, client: c, ledger: l, cmd: cmd, done: make(chan struct{})}
	cmd.Stderr = &m.stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	m.in = in
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start member %s: %w", name, err)
	}
	go func() {
		defer close(m.done)
		read := m.follow(out)
		err := cmd.Wait()
		if read != nil {
			err = read
		}
		m.err = err
	}()
	t.Cleanup(func() {
		m.kill()
		if t.Failed() {
			t.Logf("member %s said on standard error:\n%.3000s", name, m.stderr.String())
		}
	})
	return m, ctx.Err()
}

// follow enters what the member prints into the ledger.
func (m *member) follow(out io.Reader) error {
	lines := bufio.NewReaderSize(out, 1<<16)
	for {
		line, err := lines.ReadString('\n')
		if errors.Is(err, io.EOF) {
			return nil // a half line of one that was killed counts for nothing
		}
		if err != nil {
			return err
		}
		if err := m.enter(strings.TrimSuffix(line, "\n")); err != nil {
			return errors.Join(err, m.cmd.Process.Kill())
		}
	}
}

func (m *member) enter(line string) error {
	if line == "failed" {
		m.ledger.failed(m.name)
		return nil
	}
	f := strings.Split(line, "\t")
	bad := fmt.Errorf("member %s printed %.200q", m.name, line)
	if len(f) < 3 {
		return bad
	}
	partition, err1 := strconv.ParseInt(f[1], 10, 32)
	offset, err2 := strconv.ParseInt(f[2], 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return errors.Join(bad, err)
	}
	switch {
	case f[0] == "record" && len(f) == 4:
		number, _, _ := strings.Cut(f[3], " ")
		i, err := strconv.Atoi(number)
		if err != nil {
			return errors.Join(bad, err)
		}
		m.ledger.record(m.name, int32(partition), offset, i)
	case f[0] == "committed" && len(f) == 3:
		m.ledger.commit(m.name, int32(partition), offset)
	default:
		return bad
	}
	return nil
}

// kill ends the member at once, with SIGKILL, and waits until what it has printed is
// in the ledger.
func (m *member) kill() {
	m.dead.Store(true)
	m.killOnce.Do(func() {
		_ = m.cmd.Process.Kill() // it may have ended
		_ = m.in.Close()
	})
	<-m.done
}

// failure is why a member has ended that should be running.
func (m *member) failure() error {
	select {
	case <-m.done:
		if m.dead.Load() {
			return nil
		}
		return fmt.Errorf("member %s has ended: %w\n%.2000s", m.name, errors.Join(m.err, errEnded), m.stderr.String())
	default:
		return nil
	}
}

var errEnded = errors.New("nobody told it to")

// leave has the member leave its group, and waits for its end.
func (m *member) leave(ctx context.Context) error {
	m.dead.Store(true)
	if m.client.bySignal {
		if err := m.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			return err
		}
	} else if err := m.in.Close(); err != nil {
		return err
	}
	select {
	case <-m.done:
		return m.err
	case <-ctx.Done():
		return fmt.Errorf("it does not leave: %w", ctx.Err())
	}
}

// memberEnv makes the test's own program a member, of the Go client that it names.
const memberEnv = "MILLRACE_TEST_MEMBER"

// TestMain is also the program of the members that are written in Go.
func TestMain(m *testing.M) {
	name := os.Getenv(memberEnv)
	if name == "" {
		os.Exit(m.Run())
	}
	if err := runGoMember(name, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// goMember makes the command of such a member.
func goMember(name string) func(addr, group, topic string) (*exec.Cmd, error) {
	return func(addr, group, topic string) (*exec.Cmd, error) {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		cmd := exec.Command(self, addr, group, topic)
		cmd.Env = append(os.Environ(), memberEnv+"="+name)
		return cmd, nil
	}
}

// runGoMember is such a member.
func runGoMember(name string, args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("%d arguments, not address, group and topic", len(args))
	}
	run, ok := map[string]func(ctx context.Context, addr, group, topic string, out *memberOut) error{
		"franz-go": franzMember, "franz-go-consumer": franzConsumerMember, "sarama": saramaMember, "kafka-go": kafkaGoMember,
	}[name]
	if !ok {
		return fmt.Errorf("no member is called %s", name)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	return run(ctx, args[0], args[1], args[2], &memberOut{})
}

// memberOut is where a member in Go prints. Safe for concurrent use.
type memberOut struct{ mu sync.Mutex }

func (o *memberOut) print(line string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, _ = os.Stdout.WriteString(line) // a member whose test has gone is killed
}

func (o *memberOut) record(partition int32, offset int64, value []byte) {
	o.print(fmt.Sprintf("record\t%d\t%d\t%s\n", partition, offset, value))
}

// pause waits between reading and committing, if the test wants that.
func (o *memberOut) pause() {
	ms, _ := strconv.Atoi(os.Getenv(pauseEnv)) // none is none
	time.Sleep(time.Duration(ms) * time.Millisecond)
}

// failed says that a commit has failed, and why.
func (o *memberOut) failed(err error) {
	fmt.Fprintln(os.Stderr, "commit:", err)
	o.print("failed\n")
}

func (o *memberOut) committed(partition int32, next int64) {
	o.print(fmt.Sprintf("committed\t%d\t%d\n", partition, next))
}
