package spool

// firstRing is the size of a ring that has just been made; it grows up to the store's limit.
const firstRing = 4 << 10

// ring keeps the last bytes of a channel. It grows by doubling, and only then forgets.
type ring struct {
	buf []byte
	// from and end are the offsets of what is kept: [from, end). A byte at offset o lies at o % len(buf).
	from, end uint64
	max       int
}

// write appends p, which must not be larger than max.
func (r *ring) write(p []byte) {
	r.grow(int(r.end-r.from) + len(p))
	at := r.end
	r.end += uint64(len(p))
	if size := uint64(len(r.buf)); r.end-r.from > size {
		r.from = r.end - size
	}
	for len(p) > 0 {
		n := copy(r.buf[at%uint64(len(r.buf)):], p)
		p, at = p[n:], at+uint64(n)
	}
}

func (r *ring) grow(need int) {
	if need <= len(r.buf) || len(r.buf) == r.max {
		return
	}
	size := max(len(r.buf), firstRing)
	for size < need {
		size *= 2
	}
	bigger := ring{buf: make([]byte, min(size, r.max)), from: r.from, end: r.from, max: r.max}
	r.each(r.from, r.end, func(part []byte) { bigger.write(part) })
	*r = bigger
}

// each calls visit for the pieces of [from, to), which must be kept.
func (r *ring) each(from, to uint64, visit func([]byte)) {
	for from < to {
		at := from % uint64(len(r.buf))
		part := r.buf[at:min(uint64(len(r.buf)), at+to-from)]
		visit(part)
		from += uint64(len(part))
	}
}

// readAt copies from offset off, which must be kept or the end.
func (r *ring) readAt(p []byte, off uint64) int {
	to := min(r.end, off+uint64(len(p)))
	n := 0
	r.each(off, to, func(part []byte) { n += copy(p[n:], part) })
	return n
}
