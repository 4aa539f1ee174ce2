package plugin

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// served is a backend that somebody else runs.
type served struct {
	cmd     *exec.Cmd
	address string
}

func serveAt(t *testing.T, address string, flags ...string) *served {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], append([]string{"serve", "--address", address}, flags...)...)
	cmd.Env = []string{envRole + "=plain", "GORACE=atexit_sleep_ms=0"}
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	s := &served{cmd: cmd, address: strings.TrimSpace(line)}
	t.Cleanup(s.kill)
	return s
}

func (s *served) kill() {
	_ = s.cmd.Process.Signal(syscall.SIGKILL)
	_ = s.cmd.Wait()
}

func addressSpec(address string) Spec {
	return Spec{Backend: "b", Address: address, Restart: Policy{Base: time.Millisecond, Max: 20 * time.Millisecond}}
}

func TestAddressIsTheSameBackend(t *testing.T) {
	for name, address := range map[string]string{"unix": "unix://" + filepath.Join(shortDir(t), "b.sock"), "tcp": "tcp://127.0.0.1:0"} {
		t.Run(name, func(t *testing.T) {
			server := serveAt(t, address)
			r := started(t, addressSpec(server.address))
			r.ask(t, "")
			if s := r.Snapshot(); s.State != Running || s.PID != 0 || s.Source != "address "+server.address || !s.Describe.GetCapabilities().GetPause() {
				t.Errorf("Snapshot = %+v", s)
			}
			_, err := r.client(t).Close(t.Context(), &backendv1.CloseRequest{AgentCredential: "exit"})
			if e := rterr.From(err); e.Reason != rterr.PluginUnavailable || e.Ran != rterr.RanUnknown {
				t.Errorf("a call that lost its backend: %v", err)
			}
			// However long it is away, it is found again.
			for range 8 {
				r.await(t, Backoff)
			}
			if e := rterr.From(r.Snapshot().LastError); !strings.Contains(e.Error(), "connect") {
				t.Errorf("the error does not say why: %v", e)
			}
			serveAt(t, server.address)
			r.await(t, Running)
			r.ask(t, "")
		})
	}
}

func TestStoppingLeavesTheAddressAlone(t *testing.T) {
	server := serveAt(t, "unix://"+filepath.Join(shortDir(t), "b.sock"))
	r := started(t, addressSpec(server.address))
	r.ask(t, "")
	if err := r.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	again := started(t, addressSpec(server.address))
	again.ask(t, "")
}

func TestAddressThatHangs(t *testing.T) {
	server := serveAt(t, "unix://"+filepath.Join(shortDir(t), "b.sock"))
	spec := addressSpec(server.address)
	spec.Timing = Timing{HealthEvery: 20 * time.Millisecond, HealthLimit: 100 * time.Millisecond, HealthMisses: 2}
	r := started(t, spec)
	r.ask(t, "")
	if err := server.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	r.await(t, Backoff)
	if err := server.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	r.await(t, Running)
	r.ask(t, "")
}

func TestMutualTLS(t *testing.T) {
	dir := shortDir(t)
	ca := newAuthority(t, dir)
	cert, key := ca.issue(t, dir, "server")
	clientCert, clientKey := ca.issue(t, dir, "client")
	server := serveAt(t, "tcp://127.0.0.1:0", "--tls-cert", cert, "--tls-key", key, "--tls-client-ca", ca.file)
	spec := addressSpec(server.address)
	spec.TLS = TLS{CA: ca.file, Cert: clientCert, Key: clientKey}
	started(t, spec).ask(t, "")

	stranger := spec
	stranger.TLS = TLS{CA: ca.file}
	if s := started(t, stranger).await(t, Backoff); s.LastError == nil {
		t.Error("a client without a certificate was served")
	}
	missing := spec
	missing.TLS.CA = filepath.Join(dir, "none")
	if s := started(t, missing).await(t, Misconfigured); !rterr.Is(s.LastError, rterr.ConfigInvalid) {
		t.Errorf("%v", s.LastError)
	}
}

func TestAddressesThatAreRefused(t *testing.T) {
	for _, address := range []string{"tcp://10.0.0.1:80", "tcp://127.0.0.1", "unix://", "http://127.0.0.1:80", "nonsense"} {
		s := started(t, addressSpec(address)).await(t, Misconfigured)
		if e := rterr.From(s.LastError); e.Reason != rterr.ConfigInvalid || e.Field != "backends.b.address" {
			t.Errorf("%s: %v", address, e)
		}
	}
}

// authority issues certificates into files.
type authority struct {
	file string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, dir string) *authority {
	t.Helper()
	a := &authority{file: filepath.Join(dir, "ca.pem")}
	a.key = newKey(t)
	a.cert = &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	writePEM(t, a.file, "CERTIFICATE", a.sign(t, a.cert, a.key))
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (a *authority) sign(t *testing.T, cert *x509.Certificate, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, cert, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func (a *authority) issue(t *testing.T, dir, name string) (certFile, keyFile string) {
	t.Helper()
	key := newKey(t)
	der := a.sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, key)
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	writePEM(t, certFile, "CERTIFICATE", der)
	writePEM(t, keyFile, "EC PRIVATE KEY", keyDER)
	return certFile, keyFile
}

func writePEM(t *testing.T, file, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}
