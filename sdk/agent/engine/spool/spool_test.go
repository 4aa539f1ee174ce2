package spool

import (
	"bytes"
	"math/rand"
	"os"
	"testing"

	"pgregory.net/rapid"
)

func open(t interface{ Fatal(...any) }, dir string, disk, total int64) *Store {
	s, err := Open(Config{Dir: dir, Disk: disk, Total: total}, func(string) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// follow reads a channel from off on to its present end.
func follow(t interface{ Fatalf(string, ...any) }, c *Channel, off uint64, size int) (data []byte, gap uint64) {
	r := c.Reader()
	defer r.Close()
	for {
		buf := make([]byte, size)
		n, g, err := r.ReadAt(buf, off)
		if err != nil {
			t.Fatalf("read at %d: %v", off, err)
		}
		if n == 0 && g == 0 {
			return data, gap
		}
		if g > 0 && len(data) > 0 {
			t.Fatalf("a gap of %d at %d, behind data", g, off)
		}
		data, gap, off = append(data, buf[:n]...), gap+g, off+uint64(n)+g
	}
}

// TestAgainstAModel writes and reads at random: what is read is what was written, whatever of it is in memory, in files or gone.
func TestAgainstAModel(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		sub, err := os.MkdirTemp(dir, "")
		if err != nil {
			t.Fatal(err)
		}
		disk := rapid.SampledFrom([]int64{1 << 20, 4 << 20, 1 << 30}).Draw(t, "disk")
		s := open(t, sub, disk, 1<<30)
		key := Key{ID: "a", Channel: 1}
		c := s.Channel(key, &Signal{})
		var model []byte
		rnd := rand.New(rand.NewSource(rapid.Int64().Draw(t, "seed")))
		check := func(c *Channel) {
			from := uint64(rapid.IntRange(0, len(model)).Draw(t, "from"))
			data, gap := follow(t, c, from, rapid.SampledFrom([]int{1000, 64 << 10, 1 << 20}).Draw(t, "size"))
			if !bytes.Equal(data, model[from+gap:]) {
				t.Fatalf("from %d, gap %d: %d bytes of %d", from, gap, len(data), len(model))
			}
			if gap > 0 && int64(len(model))-int64(from+gap) < disk/2 {
				t.Fatalf("a gap of %d in %d bytes", gap, len(model))
			}
		}
		for range rapid.IntRange(1, 12).Draw(t, "writes") {
			p := make([]byte, rapid.SampledFrom([]int{1, 100, 5000, 64 << 10, 300 << 10, 1 << 20}).Draw(t, "n"))
			rnd.Read(p)
			_, _ = c.Write(p)
			model = append(model, p...)
			c.expire() // Now, not while check reads: it may drop what check has begun to read.
			check(c)
		}
		small, isSmall := c.Finish()
		check(c)
		if isSmall != (len(model) <= Small) || isSmall && (!bytes.Equal(small, model) || s.Used() != 0) {
			t.Fatalf("small %v: %d bytes of %d, %d in files", isSmall, len(small), len(model), s.Used())
		}
		if !isSmall && s.Used() > disk+disk/segmentsPerChannel+2*Small {
			t.Fatalf("%d bytes in files", s.Used())
		}
		again := open(t, sub, disk, 1<<30)
		if isSmall {
			check(again.Stored(key, uint64(len(model)), 0, small))
			return
		}
		if again.Length(key) != uint64(len(model)) || again.Used() != s.Used() {
			t.Fatalf("a new store knows %d bytes of %d", again.Length(key), len(model))
		}
		check(again.Stored(key, uint64(len(model)), uint64(len(model)), nil))
		again.Remove("a")
		if left, _ := os.ReadDir(sub); len(left) != 0 || again.Used() != 0 {
			t.Fatalf("%d files are left", len(left))
		}
	})
}

func TestTheOldestOutputOfAllGoesFirst(t *testing.T) {
	s := open(t, t.TempDir(), 1<<20, 2<<20)
	for _, id := range []string{"a", "b", "c", "d"} {
		c := s.Channel(Key{ID: id}, &Signal{})
		_, _ = c.Write(make([]byte, 900<<10))
		c.Finish()
	}
	if s.Used() > 2<<20 || s.Length(Key{ID: "a"}) != 0 || s.Length(Key{ID: "d"}) != 900<<10 {
		t.Errorf("%d bytes, a %d, d %d", s.Used(), s.Length(Key{ID: "a"}), s.Length(Key{ID: "d"}))
	}
}

func TestOutputSurvivesInFilesSoon(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 1<<20, 1<<20)
	c := s.Channel(Key{ID: "x"}, &Signal{})
	_, _ = c.Write([]byte("hello"))
	c.expire() // What the timer does.
	c.Rename(Key{ID: "y"}, &Signal{})
	_, _ = c.Write([]byte(" you"))
	c.expire()
	again := open(t, dir, 1<<20, 1<<20)
	data, gap := follow(t, again.Stored(Key{ID: "y"}, again.Length(Key{ID: "y"}), again.Length(Key{ID: "y"}), nil), 0, 100)
	if string(data) != "hello you" || gap != 0 {
		t.Errorf("%q, gap %d", data, gap)
	}
	c.Finish()
}

func TestAFullDiskMakesAGap(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 1<<30, 1<<30)
	c := s.Channel(Key{ID: "x"}, &Signal{})
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	_, _ = c.Write(make([]byte, 1<<20))
	if data, gap := follow(t, c, 0, 64<<10); len(data) != 2*Small || gap != 1<<20-2*Small {
		t.Errorf("%d bytes, gap %d", len(data), gap)
	}
	c.Finish()
}
