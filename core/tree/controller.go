package tree

import (
	"fmt"
	"strconv"
	"strings"
)

// Controller is the data of /controller: who the controller is.
type Controller struct {
	BrokerID    int32
	TimestampMs int64
}

type controllerJSON struct {
	Version    number `json:"version"`
	BrokerID   number `json:"brokerid"`
	Timestamp  text   `json:"timestamp"`
	KRaftEpoch number `json:"kraftControllerEpoch"`
}

// Encode writes version 2.
func (c Controller) Encode() []byte {
	return encode(controllerJSON{Version: 2, BrokerID: number(c.BrokerID), Timestamp: text(c.TimestampMs), KRaftEpoch: -1})
}

// DecodeController reads versions 1 and 2.
func DecodeController(data []byte) (Controller, error) {
	j := controllerJSON{BrokerID: -1}
	if err := decode("the controller", data, &j); err != nil {
		return Controller{}, err
	}
	return Controller{BrokerID: int32(j.BrokerID), TimestampMs: int64(j.Timestamp)}, nil
}

// EncodeEpoch writes /controller_epoch.
func EncodeEpoch(epoch int32) []byte { return []byte(strconv.Itoa(int(epoch))) }

// DecodeEpoch reads /controller_epoch.
func DecodeEpoch(data []byte) (int32, error) {
	n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 32)
	if err != nil {
		return 0, fmt.Errorf("read the controller epoch from %q: want a whole number", clip(data))
	}
	return int32(n), nil
}
