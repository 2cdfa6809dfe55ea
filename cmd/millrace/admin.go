package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// withAdmin runs f with an admin client.
func withAdmin(ctx context.Context, conn *connection, f func(ctx context.Context, adm *kadm.Client) error) error {
	return withClient(ctx, conn, func(ctx context.Context, _ *kgo.Client, adm *kadm.Client) error { return f(ctx, adm) })
}

// brokerError puts the broker's message after the name of its error.
func brokerError(subject string, err error, message string) error {
	var ke *kerr.Error
	if errors.As(err, &ke) && message != "" {
		return fmt.Errorf("%s: %s: %s", subject, ke.Message, message)
	}
	return fmt.Errorf("%s: %w", subject, err)
}

// configPairs reads name=value flags.
func configPairs(flag string, pairs []string) (map[string]*string, error) {
	out := make(map[string]*string, len(pairs))
	for _, p := range pairs {
		name, value, ok := strings.Cut(p, "=")
		if name = strings.TrimSpace(name); !ok || name == "" {
			return nil, usagef("--%s %s: want name=value", flag, p)
		}
		if out[name] != nil {
			return nil, usagef("--%s %s is given twice", flag, name)
		}
		out[name] = &value
	}
	return out, nil
}

// withClient is withAdmin with the client below, for requests that kadm does not have.
func withClient(ctx context.Context, conn *connection, f func(ctx context.Context, cl *kgo.Client, adm *kadm.Client) error) error {
	cl, err := conn.open(ctx)
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(ctx, conn.timeout)
	defer cancel()
	adm := kadm.NewClient(cl)
	adm.SetTimeoutMillis(int32(conn.timeout.Milliseconds()))
	return f(ctx, cl, adm)
}

// errLeftOut is an answer that does not name what was asked for.
var errLeftOut = errors.New("the answer leaves it out")

// eachAnswer takes the answer for each of the names, in order: take prints it, or says
// why it failed. Names that have none failed, with the error of the request if it had one.
func eachAnswer[R any](kind string, names []string, answers map[string]R, failed error, take func(name string, r R) error) error {
	var errs []error
	for _, name := range names {
		r, ok := answers[name]
		if !ok {
			errs = append(errs, fmt.Errorf("%s %s: %w", kind, name, cmp.Or(failed, errLeftOut)))
			continue
		}
		errs = append(errs, take(name, r))
	}
	return errors.Join(errs...)
}

// printEach prints views, a JSON object a line or as text.
func printEach[V any](io streams, views []V, asJSON bool, text func(i int, v *V) error) error {
	for i := range views {
		var err error
		if asJSON {
			err = json.NewEncoder(io.out).Encode(&views[i])
		} else {
			err = text(i, &views[i])
		}
		if err != nil {
			return err
		}
	}
	return nil
}
