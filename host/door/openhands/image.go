package openhands

import (
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// Sandboxes come from backends, not from images that a client names: a name is taken as it is, and nothing is built. So every
// image "exists", and no client has a reason to build one.

// buildRefusal is how a build ends.
const buildRefusal = "images are not built here: sandboxes come from the daemon's backends. " +
	"Set SANDBOX_RUNTIME_CONTAINER_IMAGE to any name"

// buildID names every build: all end the same way.
const buildID = "build-not-supported"

func registryPrefix(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, map[string]string{"registry_prefix": "openhands-rt"})
}

// imageInfo is what OpenHands' builder reads of an image that exists.
type imageInfo struct {
	UploadTime     string `json:"upload_time"`
	ImageSizeBytes int64  `json:"image_size_bytes"`
}

func (d *Door) imageExists(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("image") == "" {
		refuse(w, rterr.Invalid("image exists", "image", "is required"))
		return
	}
	reply(w, http.StatusOK, struct {
		Exists bool      `json:"exists"`
		Image  imageInfo `json:"image"`
	}{true, imageInfo{UploadTime: d.started.UTC().Format(time.RFC3339)}})
}

// build reads the upload to its end, keeping none of it: a client that is answered before does not read the answer. At most limit
// bytes are taken.
func build(w http.ResponseWriter, r *http.Request, limit int64) {
	form, err := formOf(r, http.MaxBytesReader(w, r.Body, limit))
	if err == nil {
		err = drain(form)
	}
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		reply(w, http.StatusRequestEntityTooLarge, problem{
			Detail: "the context has more than " + strconv.FormatInt(tooLarge.Limit, 10) + " bytes", Reason: rterr.LimitExceeded.String(),
		})
		return
	}
	if err != nil {
		refuse(w, rterr.Invalid("build", "body", "%v", err))
		return
	}
	reply(w, http.StatusOK, map[string]string{"build_id": buildID})
}

// formOf reads the boundary of a multipart body.
func formOf(r *http.Request, body io.Reader) (*multipart.Reader, error) {
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || !strings.HasPrefix(kind, "multipart/") || params["boundary"] == "" {
		return nil, errors.New("is not multipart")
	}
	return multipart.NewReader(body, params["boundary"]), nil
}

// drain reads every part; context and target_image must be among them.
func drain(form *multipart.Reader) error {
	seen := map[string]bool{}
	for {
		part, err := form.NextRawPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		seen[part.FormName()] = true
		if _, err := io.Copy(io.Discard, part); err != nil {
			return err
		}
	}
	for _, name := range []string{"context", "target_image"} {
		if !seen[name] {
			return errors.New("has no part " + name)
		}
	}
	return nil
}

func buildStatus(w http.ResponseWriter, r *http.Request) {
	id := r.URL.Query().Get("build_id")
	if id == "" {
		refuse(w, rterr.Invalid("build status", "build_id", "is required"))
		return
	}
	if id != buildID {
		reply(w, http.StatusNotFound, problem{Detail: "no build " + id, Reason: rterr.NotFound.String()})
		return
	}
	reply(w, http.StatusOK, map[string]string{"build_id": id, "status": "FAILURE", "error": buildRefusal})
}
