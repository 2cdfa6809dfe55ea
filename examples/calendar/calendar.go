package main

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// config is the plugin's settings.
type config struct {
	Days     int      `setting:"retention.calendar.days" scope:"topic" doc:"How many whole business days the policy calendar keeps a record after the day it was written on."`
	Zone     string   `setting:"retention.calendar.zone" scope:"topic" doc:"Time zone in which days begin, as Europe/Berlin or UTC."`
	Weekend  []string `setting:"retention.calendar.weekend" doc:"Days of the week that are no business days, by commas."`
	Holidays []string `setting:"retention.calendar.holidays" doc:"Dates that are no business days, by commas: YYYY-MM-DD, or MM-DD for every year."`
}

func defaults() config {
	return config{Days: 5, Zone: "UTC", Weekend: []string{"saturday", "sunday"}}
}

// Validate is called when the broker starts, so that a mistake shows there.
func (c config) Validate() error {
	_, _, err := c.parse()
	return err
}

// mostDays bounds the search for a day: about 40 years.
const mostDays = 10_000

func checkDays(n int) error {
	if n < 0 || n > mostDays {
		return fmt.Errorf("%s=%d: want 0 to %d", daysSetting, n, mostDays)
	}
	return nil
}

func (c config) parse() (calendar, *time.Location, error) {
	errs := []error{checkDays(c.Days)}
	zone, err := time.LoadLocation(c.Zone)
	if err != nil {
		errs = append(errs, fmt.Errorf("%s=%s: want a zone as Europe/Berlin: %w", zoneSetting, c.Zone, err))
	}
	cal := calendar{yearly: map[string]bool{}, dates: map[string]bool{}}
	free := 0
	for _, name := range trimmed(c.Weekend) {
		found := false
		for d := time.Sunday; d <= time.Saturday; d++ {
			if strings.EqualFold(name, d.String()) {
				if found = true; !cal.weekend[d] {
					cal.weekend[d] = true
					free++
				}
			}
		}
		if !found {
			errs = append(errs, fmt.Errorf("retention.calendar.weekend: %q is no day of the week", name))
		}
	}
	if free == len(cal.weekend) {
		errs = append(errs, errors.New("retention.calendar.weekend: a week needs a business day"))
	}
	for _, date := range trimmed(c.Holidays) {
		_, once := time.Parse(time.DateOnly, date)
		_, yearly := time.Parse(time.DateOnly, "2000-"+date) // a leap year
		switch {
		case once == nil:
			cal.dates[date] = true
		case yearly == nil:
			cal.yearly[date] = true
		default:
			errs = append(errs, fmt.Errorf("retention.calendar.holidays: %q: want YYYY-MM-DD or MM-DD", date))
		}
	}
	if most := 300; len(cal.yearly) > most {
		errs = append(errs, fmt.Errorf("retention.calendar.holidays: more than %d holidays in every year", most))
	}
	return cal, zone, errors.Join(errs...)
}

// trimmed drops empty items, which an empty setting has.
func trimmed(list []string) []string {
	var out []string
	for _, s := range list {
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, s)
		}
	}
	return out
}

// calendar knows business days.
type calendar struct {
	weekend       [7]bool
	dates, yearly map[string]bool // YYYY-MM-DD and MM-DD
}

func (c *calendar) business(day time.Time) bool {
	date := day.Format(time.DateOnly)
	return !c.weekend[day.Weekday()] && !c.dates[date] && !c.yearly[date[len("2006-"):]]
}

// back is the midnight that n business days lie behind, the day of now not counted:
// they are over when it begins. parse has seen to it that there are business days.
func (c *calendar) back(now time.Time, n int) time.Time {
	year, month, day := now.Date()
	at := func(hour int) time.Time { return time.Date(year, month, day, hour, 0, 0, 0, now.Location()) }
	for n > 0 {
		day--
		if c.business(at(12)) { // noon: some zones have days without a midnight
			n--
		}
	}
	return at(0)
}
