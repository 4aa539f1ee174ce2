package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

type thing struct {
	Name  string `json:"name"`
	Count int    `json:"count"`
}

func openThings(t *testing.T, s *Store, cfg BucketConfig) *Bucket[thing] {
	t.Helper()
	cfg.Name = "things"
	cfg.Schema = max(cfg.Schema, 1)
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = 1 << 20
	}
	b, err := OpenBucket[thing](t.Context(), s, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBucketWritesAndReads(t *testing.T) {
	b := openThings(t, openStore(t, Bounds{}), BucketConfig{})
	ctx, key := t.Context(), KeyOf("k")
	if _, err := b.Get(ctx, key); !rterr.Is(err, rterr.NotFound) {
		t.Errorf("get of nothing: %v", err)
	}
	first, err := b.Create(ctx, key, thing{"a", 1}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Create(ctx, key, thing{"b", 1}, 0); !rterr.Is(err, rterr.AlreadyExists) {
		t.Errorf("second create: %v", err)
	}
	second, err := b.Update(ctx, key, thing{"c", 2}, first, 0)
	if err != nil || second <= first {
		t.Errorf("update: %d after %d, %v", second, first, err)
	}
	if _, err := b.Update(ctx, key, thing{"d", 3}, first, 0); !IsConflict(err) || !rterr.Is(err, rterr.IllegalState) {
		t.Errorf("late update: %v", err)
	}
	if err := b.Delete(ctx, key, first); !IsConflict(err) {
		t.Errorf("late delete: %v", err)
	}
	if e, err := b.Get(ctx, key); err != nil || e.Value != (thing{"c", 2}) || e.Revision != second || e.Key != key {
		t.Errorf("get: %+v, %v", e, err)
	}
	if err := b.Delete(ctx, key, second); err != nil {
		t.Errorf("delete: %v", err)
	}
	if err := b.Delete(ctx, key, 0); err != nil {
		t.Errorf("delete of nothing: %v", err)
	}
	if _, err := b.Get(ctx, key); !rterr.Is(err, rterr.NotFound) {
		t.Errorf("get after delete: %v", err)
	}
	if _, err := b.Create(ctx, key, thing{"e", 4}, 0); err != nil {
		t.Errorf("create after delete: %v", err)
	}
	if _, err := b.Put(ctx, key, thing{"f", 5}, 0); err != nil {
		t.Errorf("put: %v", err)
	}
}

func TestModifyLosesNoIncrement(t *testing.T) {
	b := openThings(t, openStore(t, Bounds{}), BucketConfig{})
	key := KeyOf("counter")
	if _, err := b.Put(t.Context(), key, thing{}, 0); err != nil {
		t.Fatal(err)
	}
	const workers, rounds = 4, 25
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range rounds {
				for {
					_, err := b.Modify(t.Context(), key, func(v *thing) (time.Duration, error) { v.Count++; return 0, nil })
					if err == nil {
						break
					}
					if !rterr.Is(err, rterr.Unavailable) { // that many conflicts in a row
						t.Error(err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	if e, err := b.Get(t.Context(), key); err != nil || e.Value.Count != workers*rounds {
		t.Errorf("%+v, %v", e, err)
	}
	stop := fmt.Errorf("stop")
	if _, err := b.Modify(t.Context(), key, func(*thing) (time.Duration, error) { return 0, stop }); err != stop {
		t.Errorf("the change's own error became %v", err)
	}
}

func TestListByPattern(t *testing.T) {
	b := openThings(t, openStore(t, Bounds{}), BucketConfig{})
	for _, key := range []Key{KeyOf("r1", "a 1"), KeyOf("r1", "a2"), KeyOf("r2", "a 1")} {
		if _, err := b.Put(t.Context(), key, thing{Name: string(key)}, 0); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		tokens []string
		want   int
	}{{nil, 3}, {[]string{"r1", Wild}, 2}, {[]string{Wild, "a 1"}, 2}, {[]string{"r2", "a2"}, 0}, {[]string{"r1"}, 0}} {
		if all, err := b.All(t.Context(), c.tokens...); err != nil || len(all) != c.want {
			t.Errorf("%q: %d records, %v; want %d", c.tokens, len(all), err, c.want)
		}
	}
}

func TestWatchSeesEveryKindOfChange(t *testing.T) {
	b := openThings(t, openStore(t, Bounds{}), BucketConfig{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if _, err := b.Put(ctx, KeyOf("old"), thing{Count: 1}, 0); err != nil {
		t.Fatal(err)
	}
	var seen []string
	for change, err := range b.Watch(ctx) {
		switch {
		case err != nil:
			if !rterr.Is(err, rterr.Cancelled) {
				t.Errorf("ended with %v", err)
			}
		case change.Current:
			seen = append(seen, "current")
			if _, err := b.Put(ctx, KeyOf("new"), thing{Count: 2}, 0); err != nil {
				t.Fatal(err)
			}
		case change.Deleted:
			seen = append(seen, "deleted "+string(change.Key))
			cancel()
		default:
			seen = append(seen, fmt.Sprint(change.Key, change.Value.Count))
			if change.Key == "new" {
				if err := b.Delete(ctx, "old", 0); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if got := strings.Join(seen, ", "); got != "old1, current, new2, deleted old" {
		t.Errorf("saw %s", got)
	}
}

func TestNewerRecordsAreRefusedAndOlderOnesMigrated(t *testing.T) {
	s := openStore(t, Bounds{})
	newer := openThings(t, s, BucketConfig{Schema: 3})
	if _, err := newer.Put(t.Context(), KeyOf("k"), thing{"x", 1}, 0); err != nil {
		t.Fatal(err)
	}
	older := openThings(t, s, BucketConfig{Schema: 2})
	_, err := older.Get(t.Context(), KeyOf("k"))
	e := rterr.From(err)
	if e == nil || e.Reason != rterr.Integrity || e.Evidence["key"] != "k" || e.Evidence["schema"] != "3" || e.Evidence["known"] != "2" {
		t.Errorf("%v, %+v", err, e)
	}
	if _, err := older.Put(t.Context(), KeyOf("k2"), thing{"y", 2}, 0); err != nil {
		t.Fatal(err)
	}
	all, err := older.All(t.Context())
	if len(all) != 1 || all[0].Key != "k2" || !rterr.Is(err, rterr.Integrity) {
		t.Errorf("a bad record hides the others: %+v, %v", all, err)
	}
	doubled := openThings(t, s, BucketConfig{Schema: 3, Migrations: map[int]Migration{2: func(data json.RawMessage) (json.RawMessage, error) {
		return json.RawMessage(strings.Replace(string(data), "2", "4", 1)), nil
	}}})
	if e, err := doubled.Get(t.Context(), KeyOf("k2")); err != nil || e.Value != (thing{"y", 4}) {
		t.Errorf("migrated to %+v, %v", e, err)
	}
	if _, err := openThings(t, s, BucketConfig{Schema: 4}).Get(t.Context(), KeyOf("k")); !rterr.Is(err, rterr.Integrity) {
		t.Errorf("without a migration: %v", err)
	}
}

func TestAFullBucketRefusesOrDrops(t *testing.T) {
	fill := func(b *Bucket[thing]) (written int, err error) {
		for written = range 100 {
			if _, err = b.Put(t.Context(), KeyOf(fmt.Sprint("k", written)), thing{Name: strings.Repeat("x", 1000)}, 0); err != nil {
				return written, err
			}
		}
		return 100, nil
	}
	t.Run("refuses", func(t *testing.T) {
		b := openThings(t, openStore(t, Bounds{}), BucketConfig{MaxBytes: 20_000})
		written, err := fill(b)
		if !rterr.Is(err, rterr.LimitExceeded) || written == 0 || rterr.From(err).Remedy == "" {
			t.Fatalf("%d written, %v", written, err)
		}
		if _, err := b.Put(t.Context(), KeyOf("k0"), thing{Name: strings.Repeat("y", 1000)}, 0); err != nil {
			t.Errorf("what is there cannot be written again: %v", err)
		}
		if err := b.Delete(t.Context(), KeyOf("k1"), 0); err != nil {
			t.Errorf("nothing can be deleted: %v", err)
		}
	})
	t.Run("drops", func(t *testing.T) {
		b := openThings(t, openStore(t, Bounds{}), BucketConfig{MaxBytes: 20_000, DropOldest: true})
		if _, err := fill(b); err != nil {
			t.Fatal(err)
		}
		all, err := b.All(t.Context())
		if err != nil || len(all) == 0 || len(all) > 20 || all[len(all)-1].Key != "k99" {
			t.Errorf("%d left, %v", len(all), err)
		}
	})
}

func TestATooLargeRecordIsRefused(t *testing.T) {
	b := openThings(t, openStore(t, Bounds{}), BucketConfig{MaxValue: 1000})
	if _, err := b.Put(t.Context(), KeyOf("k"), thing{Name: strings.Repeat("x", 900)}, 0); err != nil {
		t.Errorf("within the bound: %v", err)
	}
	_, err := b.Put(t.Context(), KeyOf("k"), thing{Name: strings.Repeat("x", 1000)}, 0)
	if !rterr.Is(err, rterr.LimitExceeded) || rterr.From(err).Retryable {
		t.Errorf("beyond the bound: %v", err)
	}
}
