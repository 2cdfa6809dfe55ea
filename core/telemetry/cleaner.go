package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// CleanerState is how compaction gets on. Counts are since the start; what is of the
// last round is 0 before the first.
type CleanerState struct {
	Threads, Running int // threads, and rounds under way
	Rounds, Failed   int64
	Read, Written    int64 // bytes
	Reclaimed        int64 // bytes by which logs have become smaller
	LastRun          time.Time
	LastTook         time.Duration
	MaxDelay         time.Duration
	BufferUsed       float64 // of the last round, from 0 to 1
	Recopied         float64 // of the last round, from 0 to 1
	MaxDirty         float64 // from 0 to 1
	Records, Kept    int64   // decided on, and kept among them
}

// cleanerFamilies has the descriptions of the metrics of compaction.
type cleanerFamilies struct {
	threads, running, rounds, failed, read, written, reclaimed *prometheus.Desc
	records, kept, lastRun, took, delay, buffer, recopy, dirty *prometheus.Desc
}

func (c *cleanerFamilies) describe(f *families) {
	const count, gauge = KindCounter, KindGauge
	cleaner, manager := "kafka.log:type=LogCleaner,name=", "kafka.log:type=LogCleanerManager,name="
	c.threads = f.add(gauge, "millrace_cleaner_threads", "threads", cleaner+"DeadThreadCount", "Threads that compact logs; Kafka counts those of log.cleaner.threads that are missing.")
	c.running = f.add(gauge, "millrace_cleaner_running", "logs", "", "Logs that are being compacted.")
	c.rounds = f.add(count, "millrace_cleaner_rounds_total", "rounds", "", "Rounds of compaction, each over one log.")
	c.failed = f.add(count, "millrace_cleaner_failed_rounds_total", "rounds", "", "Rounds of compaction that failed.")
	c.read = f.add(count, "millrace_cleaner_read_bytes_total", "bytes", "", "Bytes that compaction has read, in both of its passes.")
	c.written = f.add(count, "millrace_cleaner_written_bytes_total", "bytes", "", "Bytes that compaction has written.")
	c.reclaimed = f.add(count, "millrace_cleaner_reclaimed_bytes_total", "bytes", "", "Bytes by which compaction has made logs smaller.")
	c.records = f.add(count, "millrace_cleaner_records_total", "records", "", "Records that compaction has decided on.")
	c.kept = f.add(count, "millrace_cleaner_kept_records_total", "records", "", "Records among them that stayed.")
	c.lastRun = f.add(gauge, "millrace_cleaner_last_run_timestamp_seconds", "seconds", manager+"time-since-last-run-ms", "When logs were last looked at for compaction, as Unix time.")
	c.took = f.add(gauge, "millrace_cleaner_round_seconds", "seconds", cleaner+"max-clean-time-secs", "How long the last round of compaction took.")
	c.delay = f.add(gauge, "millrace_cleaner_max_compaction_delay_seconds", "seconds", cleaner+"max-compaction-delay-secs", "Longest time by which a record was overdue for compaction (max.compaction.lag.ms) when the last round began.")
	c.buffer = f.add(gauge, "millrace_cleaner_buffer_utilization_ratio", "ratio", cleaner+"max-buffer-utilization-percent", "How full the table of keys was in the last round, from 0 to 1.")
	c.recopy = f.add(gauge, "millrace_cleaner_recopy_ratio", "ratio", cleaner+"cleaner-recopy-percent", "Share of the last log that was written again, from 0 to 1.")
	c.dirty = f.add(gauge, "millrace_cleaner_max_dirty_ratio", "ratio", manager+"max-dirty-percent", "Largest uncompacted share of a compacted log at the last look, from 0 to 1.")
}

func (e emit) number(d *prometheus.Desc, v float64) {
	e <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
}

func (c *cleanerFamilies) collect(e emit, s CleanerState) {
	e.gauge(c.threads, int64(s.Threads))
	e.gauge(c.running, int64(s.Running))
	e.count(c.rounds, s.Rounds)
	e.count(c.failed, s.Failed)
	e.count(c.read, s.Read)
	e.count(c.written, s.Written)
	e.count(c.reclaimed, s.Reclaimed)
	e.count(c.records, s.Records)
	e.count(c.kept, s.Kept)
	last := 0.0
	if !s.LastRun.IsZero() {
		last = float64(s.LastRun.UnixMilli()) / 1000
	}
	e.number(c.lastRun, last)
	e.number(c.took, s.LastTook.Seconds())
	e.number(c.delay, s.MaxDelay.Seconds())
	e.number(c.buffer, s.BufferUsed)
	e.number(c.recopy, s.Recopied)
	e.number(c.dirty, s.MaxDirty)
}
