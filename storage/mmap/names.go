package mmap

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/millrace/millrace/core"
)

// Suffixes of files and directories, as in Kafka.
const (
	logSuffix     = ".log"
	indexSuffix   = ".index"
	timeSuffix    = ".timeindex"
	deletedSuffix = ".deleted"
	cleanedSuffix = ".cleaned"
	swapSuffix    = ".swap"
	// openSuffix marks a segment, by an empty file, as long as the end of the one
	// before may not be on disk; Kafka has no use for it and leaves it alone.
	openSuffix = ".unflushed"
	// replacesSuffix names the end of what a segment on its way takes the place of;
	// Kafka leaves it alone.
	replacesSuffix = ".replaces"
	deleteDir      = "-delete"
	futureDir      = "-future"
	strayDir       = "-stray"

	maxFileName = 255
	offsetWidth = 20 // digits of the offset in a file name
)

// segmentName is the name of a segment's files without the suffix.
func segmentName(base int64) string { return fmt.Sprintf("%0*d", offsetWidth, base) }

// parseSegmentName reads the base offset of a file name, which ends with suffix.
func parseSegmentName(name, suffix string) (int64, bool) {
	digits, ok := strings.CutSuffix(name, suffix)
	if !ok || len(digits) != offsetWidth {
		return 0, false
	}
	base, err := strconv.ParseUint(digits, 10, 63)
	return int64(base), err == nil
}

// parseDirName reads the name of a partition's directory. ok is false for other
// directories, and for those that are on their way out.
func parseDirName(name string) (tp core.TopicPartition, future, ok bool) {
	if strings.HasSuffix(name, deleteDir) || strings.HasSuffix(name, strayDir) {
		return tp, false, false
	}
	if rest, isFuture := strings.CutSuffix(name, futureDir); isFuture {
		dot := strings.LastIndexByte(rest, '.')
		if dot < 0 {
			return tp, false, false
		}
		name, future = rest[:dot], true
	}
	dash := strings.LastIndexByte(name, '-')
	if dash <= 0 {
		return tp, false, false
	}
	p, err := strconv.ParseUint(name[dash+1:], 10, 31)
	if err != nil || strconv.FormatUint(p, 10) != name[dash+1:] {
		return tp, false, false
	}
	return core.TopicPartition{Topic: name[:dash], Partition: int32(p)}, future, true
}

// isDeletedDir reports whether a directory was renamed to be deleted:
// TOPIC-P.<uuid>-delete. Others of that ending are somebody else's.
func isDeletedDir(name string) bool {
	rest, ok := strings.CutSuffix(name, deleteDir)
	dot := strings.LastIndexByte(rest, '.')
	if !ok || dot < 0 {
		return false
	}
	_, future, ok := parseDirName(rest[:dot])
	return ok && !future
}

// uniqueDirName is TOPIC-P.<uuid> with a suffix. The topic is cut where the name
// would be too long for a file system, as Kafka does.
func uniqueDirName(tp core.TopicPartition, suffix string) string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	tail := fmt.Sprintf("-%d.%s%s", tp.Partition, hex.EncodeToString(id[:]), suffix)
	return tp.Topic[:min(len(tp.Topic), maxFileName-len(tail))] + tail
}

// checkTopic refuses names that are no plain directory name. Kafka's own rules for
// topics are stricter; they are the core's to keep.
func checkTopic(tp core.TopicPartition) error {
	name := tp.String()
	if tp.Topic == "" || tp.Partition < 0 || len(name) > maxFileName || strings.ContainsAny(tp.Topic, "/\\\x00\n ") ||
		strings.HasPrefix(tp.Topic, ".") {
		return fmt.Errorf("topic %q partition %d cannot name a directory: %w", tp.Topic, tp.Partition, core.ErrInvalidConfig)
	}
	return nil
}
