package trust

import (
	"errors"

	"google.golang.org/protobuf/encoding/protowire"
)

var errProto = errors.New("malformed protobuf")

// fields calls f for each field of a message: v for numbers, p for bytes.
// Fields of unknown numbers are passed on too.
func fields(b []byte, f func(num protowire.Number, v uint64, p []byte) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errProto
		}
		b = b[n:]
		var v uint64
		var p []byte
		switch typ {
		case protowire.VarintType:
			v, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			p, n = protowire.ConsumeBytes(b)
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return errProto
		}
		if err := f(num, v, p); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

func appendBytes(b []byte, num protowire.Number, p []byte) []byte {
	if len(p) == 0 {
		return b
	}
	return protowire.AppendBytes(protowire.AppendTag(b, num, protowire.BytesType), p)
}

func appendUint(b []byte, num protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), v)
}

// exactly copies a field of a fixed length.
func exactly(dst, p []byte) error {
	if len(p) != len(dst) {
		return errProto
	}
	copy(dst, p)
	return nil
}
