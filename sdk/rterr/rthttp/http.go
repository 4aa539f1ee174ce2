// Package rthttp maps rterr to HTTP: the status of a plain answer, and Connect's errors. It is the only place that does.
package rthttp

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/rterr/rtwire"
)

// mapping is a reason's Connect code and HTTP status.
type mapping struct {
	code connect.Code
	http int
}

func mappingOf(r rterr.Reason) mapping {
	switch r {
	case rterr.InvalidArgument, rterr.ConfigInvalid, rterr.UnknownKind:
		return mapping{connect.CodeInvalidArgument, http.StatusBadRequest}
	case rterr.Unauthenticated:
		return mapping{connect.CodeUnauthenticated, http.StatusUnauthorized}
	case rterr.PermissionDenied:
		return mapping{connect.CodePermissionDenied, http.StatusForbidden}
	case rterr.NotFound:
		return mapping{connect.CodeNotFound, http.StatusNotFound}
	case rterr.SandboxGone:
		return mapping{connect.CodeNotFound, http.StatusGone}
	case rterr.AlreadyExists, rterr.ActionConflict:
		return mapping{connect.CodeAlreadyExists, http.StatusConflict}
	case rterr.IllegalState:
		return mapping{connect.CodeFailedPrecondition, http.StatusConflict}
	case rterr.SandboxPaused:
		return mapping{connect.CodeFailedPrecondition, http.StatusServiceUnavailable}
	case rterr.Unsupported:
		return mapping{connect.CodeUnimplemented, http.StatusNotImplemented}
	case rterr.LimitExceeded, rterr.QuotaExceeded, rterr.RateLimited:
		return mapping{connect.CodeResourceExhausted, http.StatusTooManyRequests}
	case rterr.Timeout:
		return mapping{connect.CodeDeadlineExceeded, http.StatusGatewayTimeout}
	case rterr.Cancelled:
		return mapping{connect.CodeCanceled, 499}
	case rterr.Network, rterr.SandboxUnreachable:
		return mapping{connect.CodeUnavailable, http.StatusBadGateway}
	case rterr.PluginUnavailable, rterr.Unavailable:
		return mapping{connect.CodeUnavailable, http.StatusServiceUnavailable}
	case rterr.Provider, rterr.OutcomeUnknown:
		return mapping{connect.CodeAborted, http.StatusBadGateway}
	case rterr.Integrity:
		return mapping{connect.CodeDataLoss, http.StatusUnprocessableEntity}
	default:
		return mapping{connect.CodeInternal, http.StatusInternalServerError}
	}
}

// Status returns the HTTP status of err, 200 for nil.
func Status(err error) int {
	if err == nil {
		return http.StatusOK
	}
	return mappingOf(rterr.ReasonOf(err)).http
}

// Write answers a plain HTTP request with err as {"error": ErrorDetail}, and Retry-After where the error knows it.
func Write(w http.ResponseWriter, err error) {
	e := rterr.From(err)
	body, marshalErr := protojson.Marshal(rtwire.ToDetail(e))
	if marshalErr != nil {
		body, _ = json.Marshal(map[string]string{"message": e.Error()}) // a map of strings always marshals
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Del("Content-Length")
	if e.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(e.RetryAfter.Seconds()+0.999)))
	}
	w.WriteHeader(Status(err))
	_, _ = w.Write([]byte(`{"error":` + string(body) + "}\n")) // the client is gone if this fails
}

// Read returns the error in a plain HTTP answer's body, as Write made it; other bodies become Provider errors with the status as evidence.
func Read(status int, body []byte) error {
	var envelope struct {
		Error json.RawMessage `json:"error"`
	}
	detail := &agentv1.ErrorDetail{}
	if json.Unmarshal(body, &envelope) == nil && len(envelope.Error) > 0 &&
		(protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(envelope.Error, detail) == nil {
		return rtwire.FromDetail(detail)
	}
	return rterr.New(rterr.Provider, "", "unexpected answer: HTTP %d %s", status, http.StatusText(status)).
		With("http_status", strconv.Itoa(status))
}

// ToConnect returns the Connect error for err, nil for nil.
func ToConnect(err error) error {
	if err == nil {
		return nil
	}
	if _, ours := errors.AsType[*rterr.Error](err); !ours {
		if _, ok := errors.AsType[*connect.Error](err); ok {
			return err
		}
	}
	e := rterr.From(err)
	out := connect.NewError(mappingOf(e.Reason).code, errors.New(e.Error()))
	if detail, detailErr := connect.NewErrorDetail(rtwire.ToDetail(e)); detailErr == nil {
		out.AddDetail(detail)
	}
	return out
}

// FromConnect returns the error behind a Connect error, nil for nil. Without an ErrorDetail the code decides.
func FromConnect(err error) error {
	if err == nil {
		return nil
	}
	if _, ours := errors.AsType[*rterr.Error](err); ours {
		return err
	}
	ce, ok := errors.AsType[*connect.Error](err)
	if !ok {
		return rterr.Wrap(rterr.Network, "", err)
	}
	for _, d := range ce.Details() {
		if value, valueErr := d.Value(); valueErr == nil {
			if detail, ok := value.(*agentv1.ErrorDetail); ok {
				return rtwire.FromDetail(detail).WithCause(err)
			}
		}
	}
	return rterr.New(reasonOf(ce.Code()), "", "%s", ce.Message()).WithCause(err)
}

func reasonOf(c connect.Code) rterr.Reason {
	for _, r := range rterr.Reasons() {
		switch r {
		case rterr.ConfigInvalid, rterr.UnknownKind, rterr.Provider, rterr.SandboxUnreachable:
			continue // an error without a detail is not one of ours: take the general reason of its code
		}
		if mappingOf(r).code == c {
			return r
		}
	}
	return rterr.Internal
}
