package partitioners

import "github.com/millrace/millrace/internal/keyhash"

// Murmur2 is the 32-bit MurmurHash2 of a key with the seed that Kafka's Java
// client uses; Java prints the same number as a signed one.
func Murmur2(key []byte) uint32 { return keyhash.Murmur2(key) }

// FNV1a is the 32-bit FNV-1a hash of a key, made positive as Sarama and librdkafka
// do it: as a signed number without its sign.
func FNV1a(key []byte) uint32 { return keyhash.FNV1a(key) }

func placeMurmur2(key []byte, n int32) int32 { return int32(keyhash.Positive31(key)) % n }

func placeCRC32(key []byte, n int32) int32 { return int32(keyhash.CRC32(key) % uint32(n)) }

func placeFNV1a(key []byte, n int32) int32 { return int32(keyhash.FNV1a(key) % uint32(n)) }
