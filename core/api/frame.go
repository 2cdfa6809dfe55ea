package api

import (
	"encoding/binary"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
)

// header is a request header, v0 to v2. clientID is borrowed from the frame.
type header struct {
	key         kmsg.Key
	version     int16
	correlation int32
	clientID    []byte // nil when null
	flexible    bool   // request and response have tagged fields (KIP-482)
}

// parseHeader splits a frame into header and body. flexibleFrom is the version from
// which a key's requests have tagged fields; it is asked for the frame's own key.
func parseHeader(frame []byte, flexibleFrom func(kmsg.Key) int16) (header, []byte, error) {
	const fixed = 8
	if len(frame) < fixed {
		return header{}, nil, fmt.Errorf("request of %d bytes, too short for a header: %w", len(frame), errProtocol)
	}
	h := header{
		key:         kmsg.Key(binary.BigEndian.Uint16(frame)),
		version:     int16(binary.BigEndian.Uint16(frame[2:])),
		correlation: int32(binary.BigEndian.Uint32(frame[4:])),
	}
	rest := frame[fixed:]
	if h.key == kmsg.ControlledShutdown && h.version == 0 {
		return h, rest, nil // request header v0: no client id
	}
	if len(rest) < 2 {
		return header{}, nil, fmt.Errorf("request header ends before the client id: %w", errProtocol)
	}
	n := int(int16(binary.BigEndian.Uint16(rest)))
	rest = rest[2:]
	if n < -1 || n > len(rest) {
		return header{}, nil, fmt.Errorf("request header has a client id of %d bytes in %d: %w", n, len(rest), errProtocol)
	}
	if n >= 0 {
		h.clientID, rest = rest[:n:n], rest[n:]
	}
	if h.flexible = h.version >= flexibleFrom(h.key); h.flexible {
		var err error
		if rest, err = skipTags(rest); err != nil {
			return header{}, nil, fmt.Errorf("tagged fields of the request header: %w", err)
		}
	}
	return h, rest, nil
}

// skipTags skips a section of tagged fields.
func skipTags(b []byte) ([]byte, error) {
	n, b, err := uvarint(b)
	for ; err == nil && n > 0; n-- {
		var size uint32
		if _, b, err = uvarint(b); err != nil {
			break
		}
		if size, b, err = uvarint(b); err != nil {
			break
		}
		if uint64(size) > uint64(len(b)) {
			return nil, fmt.Errorf("field of %d bytes in %d: %w", size, len(b), errProtocol)
		}
		b = b[size:]
	}
	return b, err
}

// uvarint reads an unsigned varint of at most 32 bits.
func uvarint(b []byte) (uint32, []byte, error) {
	v, n := binary.Uvarint(b)
	if n <= 0 || v > 1<<32-1 {
		return 0, nil, fmt.Errorf("malformed varint: %w", errProtocol)
	}
	return uint32(v), b[n:], nil
}

// encode makes the reply frame of a response.
func encode(h header, resp kmsg.Response) *core.Reply {
	resp.SetVersion(h.version)
	buf := make([]byte, 4, 512)
	binary.BigEndian.PutUint32(buf, uint32(h.correlation))
	// The response header of ApiVersions has no tagged fields in any version, so
	// that a client that knows nothing yet can read it (KIP-511).
	if h.flexible && h.key != kmsg.ApiVersions {
		buf = append(buf, 0)
	}
	return &core.Reply{Parts: []core.Part{{Bytes: resp.AppendTo(buf)}}}
}
