package v0

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"regexp"
	"strings"
)

// maxSmallBody is the largest body of /list_files and /update_mcp_server, in bytes.
const maxSmallBody = 1 << 20

var serverName = regexp.MustCompile(`^[a-zA-Z0-9_-]+$`)

// readSmall reads a body that is held in memory.
func readSmall(body io.Reader) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(body, maxSmallBody+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxSmallBody {
		return nil, tooLarge("body", maxSmallBody)
	}
	return raw, nil
}

// decodeList returns the path of a /list_files, empty for the working directory. What is no path is one that does not exist.
func decodeList(body io.Reader) (string, error) {
	raw, err := readSmall(body)
	if err != nil {
		return "", err
	}
	var request struct {
		Path json.RawMessage `json:"path"`
	}
	if err := json.Unmarshal(raw, &request); err != nil {
		if _, other := errors.AsType[*json.UnmarshalTypeError](err); other {
			return "", Unprocessable("dict_type", "Input should be a valid dictionary", "body")
		}
		return "", Unprocessable("json_invalid", "JSON decode error", "body")
	}
	if text := string(request.Path); text != "" && text != "null" && text[0] != '"' {
		return "\x00", nil // no path has that name
	}
	var path string
	if len(request.Path) > 0 {
		err = json.Unmarshal(request.Path, &path)
	}
	return path, err
}

// updateMCP answers /update_mcp_server: the servers are understood, and there is nothing here to run them.
func (h *Handler) updateMCP(w http.ResponseWriter, r *http.Request) {
	raw, err := readSmall(r.Body)
	if err != nil {
		h.reply(w, r, FailureOf(err).Reply())
		return
	}
	h.reply(w, r, UpdateMCP(raw))
}

// UpdateMCP is the answer to the body of an /update_mcp_server where no MCP server can be run: 200, and router_error_log says so
// unless the list is empty.
func UpdateMCP(body []byte) Reply {
	var list []json.RawMessage
	switch err := json.Unmarshal(body, &list); {
	case err != nil && !json.Valid(body):
		return Unexpected().Reply()
	case err != nil || list == nil:
		return (&Failure{Status: http.StatusBadRequest, Detail: "Request must be a list of MCP tools to sync"}).Reply()
	}
	var names []string
	for _, raw := range list {
		var server struct{ Name, Command string }
		if json.Unmarshal(raw, &server) != nil || !serverName.MatchString(server.Name) ||
			server.Command == "" || strings.ContainsAny(server.Command, " \t\n") {
			return Unexpected().Reply()
		}
		names = append(names, server.Name)
	}
	answer := struct {
		Detail string `json:"detail"`
		Log    string `json:"router_error_log"`
	}{Detail: "MCP server updated successfully"}
	if len(names) > 0 {
		answer.Log = "MCP servers are not available in this sandbox; not started: " + strings.Join(names, ", ")
	}
	return OK(answer)
}
