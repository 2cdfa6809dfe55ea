package host

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
	pb "github.com/millrace/millrace/plugins/proto/v0"
	"github.com/millrace/millrace/plugins/remote"
)

// Description is what a program says of itself.
type Description struct {
	Path       string      `json:"path"`
	SHA256     string      `json:"sha256"`
	Program    string      `json:"program"`
	Version    string      `json:"version"`
	Components []Component `json:"components"`
}

// Component is one part that a program offers.
type Component struct {
	Seam         string            `json:"seam"`
	Name         string            `json:"name"`
	Doc          string            `json:"doc"`
	Codec        string            `json:"codec,omitempty"`
	Capabilities []string          `json:"capabilities,omitempty"`
	Settings     []core.SettingDef `json:"settings,omitempty"`
	// Problems are what the component says when it is configured with the settings that
	// were given, and with its defaults otherwise.
	Problems []string `json:"problems,omitempty"`
}

// Inspect starts a program, asks what it offers, has each component configured, and ends
// it: what a broker does at its start, without one. Whatever the program prints goes to
// log.
func Inspect(ctx context.Context, s Spec, settings func(name string) (string, bool), log *slog.Logger) (Description, error) {
	sum, err := Checksum(s.Path)
	if err != nil {
		return Description{}, fmt.Errorf("%w: %w", core.ErrInvalidConfig, err)
	}
	var to atomic.Pointer[slog.Logger]
	to.Store(log)
	proc, err := launch(ctx, &s, &to, core.SystemClock{}, "")
	if err != nil {
		return Description{}, fmt.Errorf("%w: %w", core.ErrInvalidConfig, err)
	}
	stop := func() error {
		ctx, cancel := context.WithTimeout(ctx, s.StopTimeout)
		defer cancel()
		return proc.stop(ctx)
	}
	d := Description{Path: s.Path, SHA256: hex.EncodeToString(sum), Program: proc.describe.Name, Version: proc.describe.Version}
	for _, c := range proc.describe.Components {
		out := Component{Seam: remote.SeamName(c.Seam), Name: c.Name, Doc: c.Doc, Capabilities: c.Capabilities, Settings: defs(c)}
		if c.Seam == pb.Seam_SEAM_COMPRESSION {
			out.Codec = record.Codec(c.Codec).String()
		}
		given := map[string]string{}
		for _, def := range c.Settings {
			if v, ok := settings(def.Name); ok {
				given[def.Name] = v
			}
		}
		reply, err := inspectOne(ctx, proc, s.StartTimeout, &pb.ConfigureRequest{Seam: c.Seam, Component: c.Name, Settings: given})
		if err != nil {
			return d, fmt.Errorf("configure the %s %s: %w", out.Seam, out.Name, errors.Join(err, stop()))
		}
		out.Problems = reply.Problems
		d.Components = append(d.Components, out)
	}
	if err := stop(); err != nil {
		return d, fmt.Errorf("it does not end when it is asked to: %w", err)
	}
	return d, nil
}

// inspectOne configures a component, for no longer than a broker's start would wait.
func inspectOne(ctx context.Context, proc *process, patience time.Duration, req *pb.ConfigureRequest) (*pb.ConfigureReply, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return pb.NewPluginClient(proc.conn).Configure(ctx, req)
}
