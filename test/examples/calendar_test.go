package examples_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/test/harness"
)

// hourOfDay is the time of day at which the test runs, in the zone that it chooses: no day
// ends while it does.
const hourOfDay = 9

// fixed is the zone in which it is so many o'clock now, which has no summer time. Its name has
// the sign of POSIX: Etc/GMT-2 is east of Greenwich.
func fixed(t *testing.T, now time.Time, hour int) *time.Location {
	t.Helper()
	east := hour - now.UTC().Hour() // -14 to 14
	if east < -12 {
		east += 24
	}
	zone, err := time.LoadLocation(fmt.Sprintf("Etc/GMT%+d", -east))
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

// TestCalendar has records of the last 14 days. Of those
//
//	days ago  0     1   2        3        4   5        6        7   8
//	          today     weekend  weekend      holiday  holiday
//
// the days 1, 4 and 7 are three business days, so that the eighth is the last to go.
func TestCalendar(t *testing.T) {
	t.Parallel()
	now := time.Now()
	zone := fixed(t, now, hourOfDay)
	ago := func(days, hour int) time.Time {
		y, m, d := now.In(zone).Date()
		return time.Date(y, m, d-days, hour, 0, 0, 0, zone)
	}
	weekday := func(days int) string { return strings.ToLower(ago(days, 12).Weekday().String()) }
	b := harness.Start(t, append(harness.Plugin("calendar", example(t, "calendar")),
		"retention.calendar.days=3", "retention.calendar.zone="+zone.String(),
		"retention.calendar.weekend="+weekday(2)+","+weekday(3),
		"retention.calendar.holidays="+ago(5, 12).Format("2006-01-02")+","+ago(6, 12).Format("01-02"),
		"log.retention.check.interval.ms=20",
	)...)
	// Four records a day: the first and the last moment, and between them an hour that the days
	// of another zone end at.
	const days, perDay = 14, 4
	first := func(daysAgo int) int64 { return int64((days - daysAgo) * perDay) }
	// It is four o'clock in the afternoon there: its days begin 7 hours earlier.
	eastern := fixed(t, now, hourOfDay+7)
	for topic, c := range map[string]struct {
		configs []string
		start   int64
	}{
		"three-days":  {nil, first(7)},
		"yesterday":   {[]string{"retention.calendar.days=1"}, first(1)},
		"today":       {[]string{"retention.calendar.days=0"}, first(0)},
		"the-weekend": {[]string{"retention.calendar.days=2"}, first(4)},
		// Of the eighth day 17:00 and later is the seventh there already.
		"eastern":   {[]string{"retention.calendar.zone=" + eastern.String()}, first(8) + 2},
		"for-long":  {[]string{"retention.calendar.days=1000"}, 0},
		"compacted": {[]string{"cleanup.policy=compact"}, 0},
	} {
		t.Run(topic, func(t *testing.T) {
			t.Parallel()
			create(t, b, topic, "1", append(slices.Clone(c.configs), "retention.policy=calendar", "segment.ms=1", "retention.ms=1", "retention.bytes=1")...)
			var records []*kgo.Record
			for day := days; day >= 0; day-- {
				midnight := ago(day, 0)
				for i, at := range []time.Time{midnight, ago(day, 12), ago(day, 17), ago(day-1, 0).Add(-2 * time.Millisecond)} {
					if at.After(now) {
						at = now.Add(time.Duration(i) * time.Second) // today is not over
					}
					records = append(records, &kgo.Record{Topic: topic, Key: fmt.Appendf(nil, "%d %d", day, i), Timestamp: at})
				}
			}
			write(t, b, records...)
			begins(t, b, topic, c.start)
		})
	}
	t.Run("a mistake of a topic's", func(t *testing.T) {
		t.Parallel()
		create(t, b, "mistaken", "1", "retention.policy=calendar", "segment.ms=1", "retention.calendar.zone=Atlantis")
		write(t, b, &kgo.Record{Topic: "mistaken", Timestamp: ago(14, 0)}, &kgo.Record{Topic: "mistaken", Timestamp: ago(13, 0)})
		begins(t, b, "mistaken", 0)
		harness.Eventually(t, "the broker's log says so", func() bool { return strings.Contains(b.Log(), "until its settings are mended") })
	})
}
