package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/sdk/broker"
)

// dump prints and checks files of a log directory.
type dump struct {
	out     io.Writer
	records bool
	json    bool
	quiet   bool
	codecs  core.Compressors
	damage  []string
}

func newDumpLog(io streams) *cobra.Command {
	d := &dump{out: io.out}
	cmd := &cobra.Command{
		Use: "dump-log FILE|DIR...", Short: "Print and check the files of a partition's directory", Args: atLeastOne("FILE or DIR"),
		Long: `Prints the batches of .log files and the entries of .index, .timeindex,
.txnindex and .snapshot files and of checkpoints, and checks them: sizes, checksums, order of
offsets, records inside the batches, index entries against the log beside them. A
directory stands for all the files in it and below: log.dirs for all partitions. The
broker need not be stopped; of a segment that it is writing, the preallocated tail of
zeros is no damage. Messages of magic 0 and 1, which Kafka wrote before 0.11, are
printed and checked too.`,
		Example: `  millrace dump-log millrace-data/orders-0
  millrace dump-log --print-records millrace-data/orders-0/00000000000000000000.log
  millrace dump-log --verify-only millrace-data`,
		RunE: func(_ *cobra.Command, args []string) error {
			codecs, err := broker.Compressors()
			if err != nil {
				return err
			}
			d.codecs = codecs
			return d.run(args)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&d.records, "print-records", false, "print the records too")
	f.BoolVar(&d.json, "json", false, "print a JSON object for each batch, record or entry")
	f.BoolVar(&d.quiet, "verify-only", false, "print damage only")
	return cmd
}

// run prints all the files, also behind one that cannot be read, and tells then what was
// wrong.
func (d *dump) run(args []string) error {
	files, err := expand(args)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	var errs []error
	for _, f := range files {
		err := d.file(f.path)
		switch {
		case err == nil:
		case errors.Is(err, errPrint):
			return err
		case f.listed && errors.Is(err, fs.ErrNotExist): // the broker has deleted it meanwhile
		default:
			errs = append(errs, fmt.Errorf("dump %s: %w", f.path, err))
		}
	}
	if n := len(d.damage); n > 0 {
		errs = append(errs, &exitError{exitCorrupt, fmt.Errorf("%d damaged places:\n  %s", n, strings.Join(d.damage, "\n  "))})
	}
	return errors.Join(errs...)
}

var (
	errNoFiles = errors.New("no file that dump-log knows")
	errPrint   = errors.New("print")
)

// dumped is a file to print; listed is one that was found in a directory.
type dumped struct {
	path   string
	listed bool
}

// expand replaces directories by the files in them and below.
func expand(args []string) ([]dumped, error) {
	var files []dumped
	for _, a := range args {
		info, err := os.Stat(a)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			files = append(files, dumped{a, false})
			continue
		}
		// WalkDir does not follow a link, which the directory itself may be.
		err = filepath.WalkDir(a+string(filepath.Separator), func(path string, e fs.DirEntry, err error) error {
			switch {
			case errors.Is(err, fs.ErrNotExist) && path != a: // a partition was deleted meanwhile
				return nil
			case err != nil:
				return err
			case !e.IsDir() && kindOf(path) != unknownFile:
				files = append(files, dumped{path, true})
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s: %w", strings.Join(args, ", "), errNoFiles)
	}
	return files, nil
}

// damaged notes something that is not as it should be, at a place in a file.
func (d *dump) damaged(file string, pos int64, format string, args ...any) {
	d.damage = append(d.damage, fmt.Sprintf("%s at %d: %s", file, pos, fmt.Sprintf(format, args...)))
}

// line prints one thing: JSON of v, or text made from format.
func (d *dump) line(v any, format string, args ...any) error {
	if d.quiet {
		return nil
	}
	var err error
	if d.json {
		err = json.NewEncoder(d.out).Encode(v)
	} else {
		_, err = fmt.Fprintf(d.out, format+"\n", args...)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errPrint, err)
	}
	return nil
}

func (d *dump) title(file string) error {
	if d.quiet || d.json {
		return nil
	}
	if _, err := fmt.Fprintf(d.out, "== %s\n", file); err != nil {
		return fmt.Errorf("%w: %w", errPrint, err)
	}
	return nil
}
