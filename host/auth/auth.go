// Package auth holds the keys of the daemon's own API and the checks that stand before every door: who asks (principals), and
// from where (Host and Origin). A key is needed on loopback too: a web page in the user's browser can reach it.
//
// Doors use it as HTTP middleware; host/runtime decides what a principal may.
package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/openhands-rt/openhands-rt/host/runtime"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/rterr/rthttp"
)

// KeyHeader is the header that OpenHands' clients use; "Authorization: Bearer KEY" is the other way.
const KeyHeader = "X-API-Key"

// MintKey reads the key in file, or makes one there (mode 0600) if there is none. The folder must exist.
func MintKey(file string) (string, error) {
	data, err := os.ReadFile(file) //nolint:gosec // the operator's own path
	if err == nil {
		if key := strings.TrimSpace(string(data)); key != "" {
			return key, checkMode(file)
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return "", rterr.Wrap(rterr.ConfigInvalid, "read key file", err)
	}
	key := "ohrt_" + rand.Text()
	temp := filepath.Join(filepath.Dir(file), ".key-"+rand.Text())
	if err := os.WriteFile(temp, []byte(key+"\n"), 0o600); err != nil {
		return "", rterr.Wrap(rterr.ConfigInvalid, "write key file", err)
	}
	if err := os.Rename(temp, file); err != nil {
		return "", rterr.Wrap(rterr.ConfigInvalid, "write key file", errors.Join(err, os.Remove(temp)))
	}
	return key, nil
}

func checkMode(file string) error {
	st, err := os.Stat(file)
	if err != nil {
		return rterr.Wrap(rterr.ConfigInvalid, "read key file", err)
	}
	if st.Mode().Perm()&0o077 != 0 {
		return rterr.New(rterr.ConfigInvalid, "read key file", "%s can be read by others (mode %04o)", file, st.Mode().Perm()).
			WithRemedy("chmod 600 " + file)
	}
	return nil
}

// Hash is what the registry keeps of a key.
func Hash(key string) [sha256.Size]byte { return sha256.Sum256([]byte(key)) }

// Keyring knows the principals by the hashes of their keys.
type Keyring struct {
	entries []entry
}

type entry struct {
	hash      [sha256.Size]byte
	principal runtime.Principal
}

// Add lets key stand for p.
func (k *Keyring) Add(hash [sha256.Size]byte, p runtime.Principal) {
	k.entries = append(k.entries, entry{hash, p})
}

// Lookup returns the principal of a key. Every entry is compared, each in constant time.
func (k *Keyring) Lookup(key string) (p runtime.Principal, ok bool) {
	hash := Hash(key)
	for _, e := range k.entries {
		if subtle.ConstantTimeCompare(hash[:], e.hash[:]) == 1 {
			p, ok = e.principal, true
		}
	}
	return p, ok && key != ""
}

// KeyOf returns the key that a request shows, empty if none.
func KeyOf(r *http.Request) string {
	if key := r.Header.Get(KeyHeader); key != "" {
		return key
	}
	scheme, key, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(key)
	}
	return ""
}

// Require lets a request pass with its principal in the context, or answers 401.
func (k *Keyring) Require(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, ok := k.Lookup(KeyOf(r))
		if !ok {
			w.Header().Set("WWW-Authenticate", `Bearer realm="openhands-rt"`)
			detail := "a key is needed"
			if KeyOf(r) != "" {
				detail = "the key is not known"
			}
			rthttp.Write(w, rterr.New(rterr.Unauthenticated, "", "%s", detail).WithRan(rterr.RanNo))
			return
		}
		next.ServeHTTP(w, r.WithContext(runtime.WithPrincipal(r.Context(), p)))
	})
}

// Origins refuses requests that a browser sends for a page of somebody else, and those whose Host is none of ours (DNS
// rebinding). hosts are allowed besides IP addresses and localhost; origins besides the request's own host.
func Origins(hosts, origins []string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if host := hostname(r.Host); !allowedHost(host, hosts) {
			rthttp.Write(w, rterr.New(rterr.PermissionDenied, "", "the host %q is not served here", host).
				WithRemedy("add it to allowed_hosts in the config"))
			return
		}
		if origin := r.Header.Get("Origin"); origin != "" && !allowedOrigin(origin, r.Host, origins) {
			rthttp.Write(w, rterr.New(rterr.PermissionDenied, "", "requests from %q are not allowed", origin).
				WithRemedy("add it to allowed_origins in the config"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

func hostname(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		return strings.ToLower(host)
	}
	return strings.ToLower(strings.Trim(hostport, "[]"))
}

func allowedHost(host string, hosts []string) bool {
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || net.ParseIP(host) != nil || slices.Contains(hosts, host)
}

func allowedOrigin(origin, host string, origins []string) bool {
	if slices.Contains(origins, origin) {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, host)
}
