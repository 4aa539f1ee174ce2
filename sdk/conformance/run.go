package conformance

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
)

// parallelClauses is the number of clauses at once where the options name none.
const parallelClauses = 4

// Run checks the target and returns one result per clause that was selected, in the order of Clauses. It blocks until the last
// clause has ended and everything it made is closed. The error says that the suite itself could not work (no plugin, bad
// target, ctx ended); a backend that breaks clauses is no error but results with status Fail.
func Run(ctx context.Context, target Target, options Options) ([]Result, error) {
	clauses, err := selected(table(), options.Only)
	if err != nil {
		return nil, err
	}
	s, err := open(ctx, target, options.Logger)
	if err != nil {
		return nil, err
	}
	defer s.close()
	results := s.runAll(ctx, clauses, options)
	return results, ctx.Err()
}

func (s *suite) runAll(ctx context.Context, clauses []clause, options Options) []Result {
	results := make([]Result, len(clauses))
	finished := make(chan Result)
	go func() {
		defer close(finished)
		s.runSome(ctx, clauses, results, finished, options.Parallel)
	}()
	for r := range finished {
		if options.Report != nil {
			options.Report(r)
		}
	}
	return results
}

func (s *suite) runSome(ctx context.Context, clauses []clause, results []Result, finished chan<- Result, parallel int) {
	if parallel <= 0 {
		parallel = parallelClauses
	}
	var group errgroup.Group
	group.SetLimit(parallel)
	do := func(i int) error {
		results[i] = s.runOne(ctx, clauses[i])
		finished <- results[i]
		return nil
	}
	for i, c := range clauses {
		if !c.last {
			group.Go(func() error { return do(i) })
		}
	}
	_ = group.Wait()
	for i, c := range clauses {
		if c.last {
			_ = do(i)
		}
	}
}

// runOne checks one clause, whatever it does: a panic in it is its failure.
func (s *suite) runOne(ctx context.Context, cl clause) (r Result) {
	started := time.Now()
	r = Result{Clause: cl.name, Rule: cl.rule, Status: Pass}
	defer func() { r.Took = time.Since(started) }()
	if missing := cl.absent(s); missing != "" {
		r.Status, r.Detail = Skip, "the target has not: "+missing
		return r
	}
	c := &check{s: s, name: cl.name}
	ctx, cancel := context.WithTimeout(ctx, s.target.Timeout)
	defer cancel()
	defer c.clean(ctx)
	defer func() {
		if p := recover(); p != nil {
			r.Status, r.Detail = Fail, fmt.Sprintf("the check panicked: %v", p)
		}
	}()
	if err := cl.run(ctx, c); err != nil {
		r.Status, r.Detail = Fail, c.explain(err)
	}
	return r
}
