package store

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"

	"github.com/openhands-rt/openhands-rt/host/lifecycle"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// Owner returns the stable id of this installation, minted at the first call on a fresh store.
func (s *Store) Owner(ctx context.Context) (string, error) {
	key := KeyOf("installation")
	fresh := Meta{Owner: "o-" + strings.ToLower(rand.Text()), CreatedAt: time.Now().UTC()}
	if _, err := s.meta.Create(ctx, key, fresh, 0); err == nil {
		return fresh.Owner, nil
	} else if !rterr.Is(err, rterr.AlreadyExists) {
		return "", err
	}
	e, err := s.meta.Get(ctx, key)
	return e.Value.Owner, err
}

// KeyHash returns what of an API key is stored: its SHA-256 in hexadecimal. Keys are random, so that a plain hash holds.
func KeyHash(apiKey string) string {
	sum := sha256.Sum256([]byte(apiKey))
	return hex.EncodeToString(sum[:])
}

// ClaimSID makes a principal's session id mean runtimeID, if it means none yet. It returns the runtime that it means now: the
// given one if the claim went through (or had before), else the holder.
func (s *Store) ClaimSID(ctx context.Context, principal, sid, runtimeID string) (holder string, err error) {
	key := KeyOf(principal, sid)
	for range modifyTries {
		_, err := s.sids.Create(ctx, key, SID{RuntimeID: runtimeID, CreatedAt: time.Now().UTC()}, 0)
		if err == nil {
			return runtimeID, nil
		}
		if !rterr.Is(err, rterr.AlreadyExists) {
			return "", err
		}
		held, err := s.sids.Get(ctx, key)
		if err == nil {
			return held.Value.RuntimeID, nil
		}
		if !rterr.Is(err, rterr.NotFound) { // released in between: try again
			return "", err
		}
	}
	return "", rterr.New(rterr.Unavailable, "claim sid "+sid, "it was claimed and released %d times meanwhile", modifyTries)
}

// LookupSID returns the runtime that a principal's session id means; rterr.NotFound if none.
func (s *Store) LookupSID(ctx context.Context, principal, sid string) (runtimeID string, err error) {
	e, err := s.sids.Get(ctx, KeyOf(principal, sid))
	return e.Value.RuntimeID, err
}

// ReleaseSID frees a session id, if it means runtimeID; else nothing happens, and that is a success.
func (s *Store) ReleaseSID(ctx context.Context, principal, sid, runtimeID string) error {
	key := KeyOf(principal, sid)
	held, err := s.sids.Get(ctx, key)
	if rterr.Is(err, rterr.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if held.Value.RuntimeID != runtimeID {
		return nil
	}
	err = s.sids.Delete(ctx, key, held.Revision)
	if IsConflict(err) { // somebody else's by now
		return nil
	}
	return err
}

// SaveRuntime writes a runtime's record if its revision is still the given one (0: it is new), and returns the new revision.
// A stopped one goes away after Bounds.StoppedRuntimes.
func (s *Store) SaveRuntime(ctx context.Context, r Runtime, revision uint64) (uint64, error) {
	ttl := time.Duration(0)
	if r.Status == lifecycle.Stopped {
		ttl = s.bounds.StoppedRuntimes
	}
	if revision == 0 {
		return s.Runtimes.Create(ctx, KeyOf(r.ID), r, ttl)
	}
	return s.Runtimes.Update(ctx, KeyOf(r.ID), r, revision, ttl)
}
