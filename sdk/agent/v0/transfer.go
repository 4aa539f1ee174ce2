package v0

import (
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/openhands-rt/openhands-rt/sdk/agent/files"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// The bounds of transfers.
const (
	// maxFields bounds what comes beside the file in an upload, in bytes.
	maxFields = 1 << 20
	// maxDrained is how much of a refused upload is still read, so that the client has sent it and reads the answer.
	maxDrained = 4 << 30
)

// raised is the answer to a failure of a transfer: 500 with the text of the original's exception.
func raised(text string) *Failure {
	return &Failure{Status: http.StatusInternalServerError, Detail: text}
}

// target is what the query of an upload asks for.
type target struct {
	destination string
	recursive   bool
}

func parseTarget(q url.Values) (target, error) {
	t := target{destination: "/"}
	if q.Has("destination") {
		t.destination = q.Get("destination")
	}
	if q.Has("recursive") {
		b, ok := boolean(q.Get("recursive"))
		if !ok {
			return t, Unprocessable("bool_parsing", "Input should be a valid boolean, unable to interpret input", "query", "recursive")
		}
		t.recursive = b
	}
	return t, nil
}

// boolean reads what the original takes for one.
func boolean(text string) (value, ok bool) {
	switch strings.ToLower(text) {
	case "1", "true", "t", "yes", "y", "on":
		return true, true
	case "0", "false", "f", "no", "n", "off":
		return false, true
	}
	return false, false
}

// check refuses what cannot be stored there under that name.
func (t target) check(name string) error {
	switch {
	case !filepath.IsAbs(t.destination):
		return raised("400: Destination must be an absolute path")
	case t.recursive && !strings.HasSuffix(name, ".zip"):
		return raised("400: Recursive uploads must be zip files")
	case files.CheckName(name) != nil:
		return raised("400: File name must be a plain name, without a folder")
	}
	return nil
}

// upload answers /upload_file. The file goes from the connection to the disk.
func (h *Handler) upload(w http.ResponseWriter, r *http.Request) {
	t, err := parseTarget(r.URL.Query())
	name := ""
	if err == nil {
		name, err = h.receive(r, t)
	}
	if err != nil {
		h.log.Info("an upload was refused", "error", err)
		_, _ = io.CopyN(io.Discard, r.Body, maxDrained) // whoever still sends does not read an answer
		h.reply(w, r, transferFailure(err).Reply())
		return
	}
	h.reply(w, r, OK(struct {
		Filename    string `json:"filename"`
		Destination string `json:"destination"`
		Recursive   bool   `json:"recursive"`
	}{name, t.destination, t.recursive}))
}

// transferFailure is the answer to an error of a transfer.
func transferFailure(err error) *Failure {
	if f, ok := errors.AsType[*Failure](err); ok {
		return f
	}
	return raised(rterr.From(err).Error())
}

// receive stores the file of a request and returns its name.
func (h *Handler) receive(r *http.Request, t target) (string, error) {
	form, err := r.MultipartReader()
	if err != nil {
		return "", Unprocessable("missing", "Field required", "body", "file")
	}
	part, name, err := filePart(form)
	if err != nil {
		return "", err
	}
	if err := t.check(name); err != nil {
		return "", err
	}
	if t.recursive || strings.HasSuffix(name, ".zip") {
		err = h.cfg.Files.ReceiveZip(r.Context(), t.destination, part)
	} else {
		err = h.cfg.Files.Receive(r.Context(), t.destination, name, part)
	}
	if err != nil {
		return "", err
	}
	_, _ = io.CopyN(io.Discard, r.Body, maxFields) // fields that follow are of no use; the connection is
	return name, nil
}

// filePart reads up to the file.
func filePart(form *multipart.Reader) (*multipart.Part, string, error) {
	left := int64(maxFields)
	for {
		part, err := form.NextRawPart()
		if errors.Is(err, io.EOF) {
			return nil, "", Unprocessable("missing", "Field required", "body", "file")
		}
		if err != nil {
			return nil, "", &Failure{Status: http.StatusBadRequest, Detail: "There was an error parsing the body", cause: err}
		}
		// As it was sent: multipart.Part has its base name only.
		_, params, err := mime.ParseMediaType(part.Header.Get("Content-Disposition"))
		name, isFile := params["filename"]
		if err == nil && params["name"] == "file" {
			if !isFile {
				return nil, "", Unprocessable("value_error", "Value error, Expected UploadFile, received: <class str>", "body", "file")
			}
			return part, name, nil
		}
		n, err := io.CopyN(io.Discard, part, left)
		if left -= n; left == 0 || err != nil && !errors.Is(err, io.EOF) {
			return nil, "", &Failure{Status: http.StatusBadRequest, Detail: "There was an error parsing the body", cause: err}
		}
	}
}

// download answers /download_files.
func (h *Handler) download(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	name := q.Get("path")
	var z *files.Zip
	var err error
	switch {
	case !q.Has("path"):
		err = Unprocessable("missing", "Field required", "query", "path")
	case !filepath.IsAbs(name):
		err = raised("400: Path must be an absolute path")
	default:
		z, err = h.cfg.Files.Zip(name)
	}
	if rterr.Is(err, rterr.NotFound) {
		err = raised("404: File not found")
	}
	if err != nil {
		h.reply(w, r, transferFailure(err).Reply())
		return
	}
	head := w.Header()
	head.Set("Content-Type", "application/zip")
	head.Set("Content-Disposition", disposition(name[strings.LastIndex(name, "/")+1:]+".zip"))
	head.Set("X-Content-Type-Options", "nosniff")
	head.Set("Trailer", files.SkippedTrailer)
	w.WriteHeader(http.StatusOK)
	if err := z.Send(r.Context(), w); err != nil {
		h.log.Warn("a download was cut", "path", name, "error", err)
		panic(http.ErrAbortHandler) // the status has gone; a cut body is how the client learns of it
	}
	head.Set(files.SkippedTrailer, strconv.Itoa(z.Skipped))
}

// disposition names an attachment.
func disposition(name string) string {
	if quoted := strings.ReplaceAll(url.QueryEscape(name), "+", "%20"); quoted != name {
		return "attachment; filename*=utf-8''" + quoted
	}
	return `attachment; filename="` + name + `"`
}
