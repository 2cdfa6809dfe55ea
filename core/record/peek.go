package record

// The message formats. Batch describes the third; the first two are the message
// sets of Kafka before 0.11, which this package only recognises.
const (
	Magic0 int8 = 0
	Magic1 int8 = 1
	Magic2 int8 = 2
)
