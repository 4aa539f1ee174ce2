package kernel

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// protocolVersion is the version of the Jupyter messaging protocol that our requests speak.
const protocolVersion = "5.3"

// maxIdentities is how many routing frames may stand before a message.
const maxIdentities = 8

// The frames of a message after the routing ones.
const (
	frameSignature = iota
	frameHeader
	frameParent
	frameMetadata
	frameContent
	frameCount
)

// delimiter stands between the routing frames and the message.
const delimiter = "<IDS|MSG>"

var (
	errNoMessage = errors.New("no message of the Jupyter protocol")
	errSignature = errors.New("the signature of a message is wrong")
)

// header of a message; the kernel reads all of it, we the id and the type.
type header struct {
	ID       string `json:"msg_id"`
	Session  string `json:"session"`
	Username string `json:"username"`
	Date     string `json:"date"`
	Type     string `json:"msg_type"`
	Version  string `json:"version"`
}

// message is one that the kernel has sent: its type, the id of the request that it belongs to ("" for none), its content.
type message struct {
	kind    string
	parent  string
	content json.RawMessage
}

// codec signs and checks the messages of one kernel.
type codec struct {
	key     []byte
	session string
}

func (c codec) sign(parts [][]byte) []byte {
	mac := hmac.New(sha256.New, c.key)
	for _, p := range parts {
		mac.Write(p)
	}
	return hex.AppendEncode(nil, mac.Sum(nil))
}

// encode makes the frames of a request and returns its id.
func (c codec) encode(kind string, content any) (id string, frames [][]byte, err error) {
	id = rand.Text()
	head, err := json.Marshal(header{ID: id, Session: c.session, Username: "openhands-rt", Type: kind, Version: protocolVersion,
		Date: time.Now().UTC().Format(time.RFC3339Nano)})
	if err != nil {
		return "", nil, err
	}
	body, err := json.Marshal(content)
	if err != nil {
		return "", nil, err
	}
	parts := [][]byte{head, []byte("{}"), []byte("{}"), body}
	return id, append([][]byte{[]byte(delimiter), c.sign(parts)}, parts...), nil
}

// decode reads the frames of a message, whose signature is checked before anything of it is looked at. Raw buffers behind it are
// left out.
func (c codec) decode(frames [][]byte) (message, error) {
	at := 0
	for at < len(frames) && at <= maxIdentities && string(frames[at]) != delimiter {
		at++
	}
	if at == len(frames) || at > maxIdentities || len(frames)-at-1 < frameCount {
		return message{}, errNoMessage
	}
	parts := frames[at+1:]
	if !hmac.Equal(parts[frameSignature], c.sign(parts[frameHeader:frameCount])) {
		return message{}, errSignature
	}
	var head, parent header
	if err := json.Unmarshal(parts[frameHeader], &head); err != nil {
		return message{}, fmt.Errorf("%w: header: %w", errNoMessage, err)
	}
	if err := json.Unmarshal(parts[frameParent], &parent); err != nil {
		return message{}, fmt.Errorf("%w: parent header: %w", errNoMessage, err)
	}
	return message{kind: head.Type, parent: parent.ID, content: parts[frameContent]}, nil
}

// The contents that we send and read; all else in them is left out.
type (
	executeRequest struct {
		Code         string   `json:"code"`
		Silent       bool     `json:"silent"`
		StoreHistory bool     `json:"store_history"`
		Expressions  struct{} `json:"user_expressions"`
		// AllowStdin false: input() raises an error instead of waiting for an answer.
		AllowStdin bool `json:"allow_stdin"`
		// StopOnError false: a request is never dropped because an earlier one has failed.
		StopOnError bool `json:"stop_on_error"`
	}
	statusContent struct {
		State string `json:"execution_state"`
	}
	streamContent struct {
		Text string `json:"text"`
	}
	// displayContent is that of display_data and execute_result: texts, but for what is JSON itself.
	displayContent struct {
		Data struct {
			Plain text `json:"text/plain"`
			PNG   text `json:"image/png"`
		} `json:"data"`
	}
	errorContent struct {
		Traceback []string `json:"traceback"`
		Name      string   `json:"ename"`
		Value     string   `json:"evalue"`
	}
)

// text is a string, or as notebooks have it, a list of lines. Anything else is no text: what the user's code displays may be
// anything.
type text string

func (t *text) UnmarshalJSON(raw []byte) error {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		*t = text(one)
		return nil
	}
	var lines []string
	if json.Unmarshal(raw, &lines) == nil {
		for _, line := range lines {
			*t += text(line)
		}
	}
	return nil
}
