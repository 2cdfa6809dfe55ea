// Package keyhash has the hash functions by which Kafka's clients place keys.
package keyhash

import (
	"encoding/binary"
	"hash/crc32"
)

// Murmur2 is the 32-bit MurmurHash2 of a key with the seed that Kafka's Java
// client uses; Java prints the same number as a signed one.
func Murmur2(key []byte) uint32 {
	const (
		seed = 0x9747b28c
		mul  = 0x5bd1e995
	)
	h := seed ^ uint32(len(key))
	for ; len(key) >= 4; key = key[4:] {
		k := binary.LittleEndian.Uint32(key) * mul
		k ^= k >> 24
		h = h*mul ^ k*mul
	}
	switch len(key) {
	case 3:
		h ^= uint32(key[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(key[1]) << 8
		fallthrough
	case 1:
		h = (h ^ uint32(key[0])) * mul
	}
	h = (h ^ h>>13) * mul
	return h ^ h>>15
}

// Positive31 is Murmur2 without its sign bit, which is what the Java client takes
// modulo the number of partitions.
func Positive31(key []byte) uint32 { return Murmur2(key) & 0x7fffffff }

// FNV1a is the 32-bit FNV-1a hash of a key, made positive as Sarama and librdkafka
// do it: as a signed number without its sign.
func FNV1a(key []byte) uint32 {
	h := uint32(0x811c9dc5)
	for _, b := range key {
		h = (h ^ uint32(b)) * 0x01000193
	}
	if int32(h) < 0 {
		h = -h
	}
	return h
}

// CRC32 is the IEEE CRC-32 of a key, as librdkafka's consistent partitioner has it.
func CRC32(key []byte) uint32 { return crc32.ChecksumIEEE(key) }
