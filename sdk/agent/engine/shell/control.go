package shell

import (
	"bytes"
	"strconv"
)

// Report is what the prompt hook says whenever the shell is idle.
type Report struct {
	// Nonce of the command that has ended, as Run was given it; empty before the first one.
	Nonce string
	// Sequence counts the reports of one shell. An interrupt of an idle shell makes a report with an old nonce.
	Sequence uint64
	// Status is $?, 0 to 255.
	Status int
	// Pid is $!, -1 if there was no background job yet.
	Pid int
	// Flags is $-.
	Flags string
	// Cwd, User, Host and Python are byte-exact; Python is empty where there is none.
	Cwd, User, Host, Python string
}

// The shape of a report on the wire: fields that each end with NUL, of which the first ends with the session's key.
const (
	reportFields = 10
	// maxField bounds what is kept of one field: twice the longest path.
	maxField = 8 << 10
)

// decoder finds reports in what arrives on the control socket. Anything that is not a report of this session is skipped, so
// that a command that gets at the socket cannot stop it from working. Memory is bounded by reportFields * maxField.
type decoder struct {
	key     []byte
	fields  []string
	partial []byte
	// Skipped counts the bytes that were in no report.
	Skipped uint64
}

// feed consumes p and calls report for each report that it completes.
func (d *decoder) feed(p []byte, report func(Report)) {
	for len(p) > 0 {
		end := bytes.IndexByte(p, 0)
		if end < 0 {
			d.keep(p)
			return
		}
		d.keep(p[:end])
		p = p[end+1:]
		if r, ok := d.field(); ok {
			report(r)
		}
	}
}

// keep adds to the field that is being read. A field that is too long keeps its end: it may be rubbish before a key.
func (d *decoder) keep(p []byte) {
	d.partial = append(d.partial, p...)
	if over := len(d.partial) - maxField; over > 0 {
		d.Skipped += uint64(over)
		d.partial = append(d.partial[:0], d.partial[over:]...)
	}
}

// field takes the field that has just ended.
func (d *decoder) field() (Report, bool) {
	f := d.partial
	d.partial = d.partial[:0]
	if bytes.HasSuffix(f, d.key) {
		d.skip()
		d.Skipped += uint64(len(f) - len(d.key))
		d.fields = append(d.fields[:0], "")
		return Report{}, false
	}
	if len(d.fields) == 0 {
		d.Skipped += uint64(len(f)) + 1
		return Report{}, false
	}
	d.fields = append(d.fields, string(f))
	if len(d.fields) < reportFields {
		return Report{}, false
	}
	r, ok := parseReport(d.fields)
	if !ok {
		d.skip()
	}
	d.fields = d.fields[:0]
	return r, ok
}

// skip counts the fields of a report that turned out to be none.
func (d *decoder) skip() {
	for _, f := range d.fields {
		d.Skipped += uint64(len(f)) + 1
	}
}

func parseReport(f []string) (Report, bool) {
	r := Report{Nonce: f[1], Pid: -1, Flags: f[5], Cwd: f[6], User: f[7], Host: f[8], Python: f[9]}
	var err error
	if r.Sequence, err = strconv.ParseUint(f[2], 10, 64); err != nil {
		return r, false
	}
	if r.Status, err = strconv.Atoi(f[3]); err != nil || r.Status < 0 || r.Status > 255 {
		return r, false
	}
	if f[4] == "" {
		return r, true
	}
	r.Pid, err = strconv.Atoi(f[4])
	return r, err == nil && r.Pid > 0
}
