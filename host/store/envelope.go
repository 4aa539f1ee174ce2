package store

import (
	"encoding/json"
	"strconv"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// MaxRecord is the largest record, in bytes as stored.
const MaxRecord = 512 << 10

// envelope is a record as stored.
type envelope struct {
	Schema int             `json:"schema"`
	Data   json.RawMessage `json:"data"`
}

// Migration makes the data of a record of schema number from that of schema number+1.
type Migration func(data json.RawMessage) (json.RawMessage, error)

// codec reads and writes the records of one bucket.
type codec struct {
	bucket string
	schema int
	// migrations[n] leads from schema n to n+1.
	migrations map[int]Migration
	maxValue   int
}

func (c codec) encode(key Key, value any) ([]byte, error) {
	data, err := json.Marshal(value)
	if err != nil {
		return nil, rterr.Wrap(rterr.Internal, "encode "+c.where(key), err)
	}
	raw, err := json.Marshal(envelope{c.schema, data})
	if err != nil {
		return nil, rterr.Wrap(rterr.Internal, "encode "+c.where(key), err)
	}
	if len(raw) > c.maxValue {
		e := rterr.New(rterr.LimitExceeded, "encode "+c.where(key), "the record has %d bytes, at most %d are kept", len(raw), c.maxValue)
		e.Retryable = false
		return nil, e
	}
	return raw, nil
}

// decode reads a record into value. A newer schema, a missing migration and anything that is no record are rterr.Integrity.
func (c codec) decode(key Key, raw []byte, value any) error {
	var e envelope
	if err := json.Unmarshal(raw, &e); err != nil {
		return c.broken(key, "is no record: %v", err).WithCause(err)
	}
	if e.Schema > c.schema {
		return c.broken(key, "has schema %d, this program knows up to %d", e.Schema, c.schema).
			With("schema", strconv.Itoa(e.Schema)).With("known", strconv.Itoa(c.schema)).
			WithRemedy("run the newer openhands-rt that wrote it, or start with another data_dir")
	}
	data := e.Data
	for schema := e.Schema; schema < c.schema; schema++ {
		migrate := c.migrations[schema]
		if migrate == nil {
			return c.broken(key, "has schema %d, from which no way leads to %d", e.Schema, c.schema).
				With("schema", strconv.Itoa(e.Schema)).With("known", strconv.Itoa(c.schema))
		}
		var err error
		if data, err = migrate(data); err != nil {
			return c.broken(key, "cannot be brought from schema %d to %d: %v", schema, schema+1, err).WithCause(err)
		}
	}
	if len(data) == 0 || string(data) == "null" {
		return c.broken(key, "has no data")
	}
	if err := json.Unmarshal(data, value); err != nil {
		return c.broken(key, "cannot be read: %v", err).WithCause(err)
	}
	return nil
}

func (c codec) where(key Key) string { return "record " + c.bucket + "/" + string(key) }

func (c codec) broken(key Key, detail string, args ...any) *rterr.Error {
	return rterr.New(rterr.Integrity, c.where(key), detail, args...).With("bucket", c.bucket).With("key", string(key))
}
