package record

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// The file: frames, each 4 bytes length and 4 bytes CRC-32C (little endian) of the payload that follows. The first byte of a
// payload is its type.
const (
	frameHeader = 8
	// maxFrame bounds a payload: an observation with hidden content of 4 MiB, escaped, and two small outputs.
	maxFrame = 64 << 20

	typeSchema = 'S'
	typeRecord = 'R'
)

// Schema is the number of the file's format. A file with a higher one is refused.
const Schema = 1

type schemaPayload struct {
	Schema int `json:"schema"`
}

// errTorn is the end of a file whose last frame was not written in full.
var errTorn = errors.New("torn frame")

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// seal fills in the header of a frame whose payload begins at frameHeader.
func seal(frame []byte) []byte {
	payload := frame[frameHeader:]
	binary.LittleEndian.PutUint32(frame, uint32(len(payload)))
	binary.LittleEndian.PutUint32(frame[4:], crc32.Checksum(payload, castagnoli()))
	return frame
}

// SchemaFrame is the beginning of a file of the format with that number.
func SchemaFrame(number int) []byte {
	raw, _ := json.Marshal(schemaPayload{Schema: number}) // A struct of one int marshals.
	return seal(append(append(make([]byte, frameHeader), typeSchema), raw...))
}

// recordFrame holds a record and, behind it, the output that is kept with it.
func recordFrame(r *agentv1.ActionRecord, outputs []*agentv1.Output) ([]byte, error) {
	frame := append(make([]byte, frameHeader, frameHeader+512), typeRecord)
	frame, err := appendDelimited(frame, r)
	for _, o := range outputs {
		if err == nil {
			frame, err = appendDelimited(frame, o)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("encode record: %w", err)
	}
	if len(frame)-frameHeader > maxFrame {
		return nil, rterr.New(rterr.LimitExceeded, "", "a record of %d bytes is too large", len(frame))
	}
	return seal(frame), nil
}

func appendDelimited(b []byte, m proto.Message) ([]byte, error) {
	b = binary.AppendUvarint(b, uint64(proto.Size(m)))
	return proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(b, m)
}

// readFrame reads the frame at off of a file of the given size. io.EOF at its end; errTorn if it stops in the middle of the
// last frame; Integrity if a frame in the middle does not fit its checksum.
func readFrame(f io.ReaderAt, off, size int64) ([]byte, error) {
	if off == size {
		return nil, io.EOF
	}
	var head [frameHeader]byte
	if size-off < frameHeader {
		return nil, errTorn
	}
	if _, err := f.ReadAt(head[:], off); err != nil {
		return nil, err
	}
	length := int64(binary.LittleEndian.Uint32(head[:]))
	end := off + frameHeader + length
	if length == 0 || end > size || length > maxFrame {
		return nil, errTorn
	}
	payload := make([]byte, length)
	if _, err := f.ReadAt(payload, off+frameHeader); err != nil {
		return nil, err
	}
	if crc32.Checksum(payload, castagnoli()) == binary.LittleEndian.Uint32(head[4:]) {
		return payload, nil
	}
	if end == size {
		return nil, errTorn
	}
	return nil, rterr.New(rterr.Integrity, "", "the frame at %d does not fit its checksum", off).
		WithRemedy("the record of what has run cannot be trusted: start with an empty state folder, under a new sandbox")
}

// checkSchema refuses a file of a later format.
func checkSchema(payload []byte) error {
	var s schemaPayload
	if payload[0] != typeSchema || json.Unmarshal(payload[1:], &s) != nil || s.Schema < 1 {
		return rterr.New(rterr.Integrity, "", "the file does not begin with a schema number")
	}
	if s.Schema > Schema {
		return rterr.New(rterr.Integrity, "", "schema %d is newer than this build knows (%d)", s.Schema, Schema).
			WithRemedy("use the build that wrote it, or a later one")
	}
	return nil
}

// decodeRecord reads the payload of a record's frame. outputs may be left out.
func decodeRecord(payload []byte, withOutputs bool) (*agentv1.ActionRecord, []*agentv1.Output, error) {
	if len(payload) == 0 || payload[0] != typeRecord {
		return nil, nil, rterr.New(rterr.Integrity, "", "not a record's frame")
	}
	in := &byteReader{rest: payload[1:]}
	options := protodelim.UnmarshalOptions{MaxSize: maxFrame}
	r := &agentv1.ActionRecord{}
	if err := options.UnmarshalFrom(in, r); err != nil {
		return nil, nil, rterr.Wrap(rterr.Integrity, "decode record", err)
	}
	if r.GetId() == "" {
		return nil, nil, rterr.New(rterr.Integrity, "decode record", "it has no id")
	}
	var outputs []*agentv1.Output
	for withOutputs && len(in.rest) > 0 {
		o := &agentv1.Output{}
		if err := options.UnmarshalFrom(in, o); err != nil {
			return nil, nil, rterr.Wrap(rterr.Integrity, "decode kept output", err)
		}
		outputs = append(outputs, o)
	}
	return r, outputs, nil
}

// byteReader is what protodelim reads from.
type byteReader struct{ rest []byte }

func (b *byteReader) Read(p []byte) (int, error) {
	if len(b.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

func (b *byteReader) ReadByte() (byte, error) {
	if len(b.rest) == 0 {
		return 0, io.EOF
	}
	c := b.rest[0]
	b.rest = b.rest[1:]
	return c, nil
}
