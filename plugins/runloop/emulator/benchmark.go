package emulator

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
)

func (s *Server) benchmarkRoutes() {
	s.routes.on("POST /v1/benchmarks/start_run", s.startBenchmarkRun)
	s.routes.on("POST /v1/benchmarks/{id}/scenarios", s.changeScenarios)
	s.routes.on("GET /v1/benchmarks/{id}/definitions", s.definitions)
	runs := kind{collection: "benchmark_runs", noun: "Benchmark run"}
	s.routes.on("GET /v1/benchmark_runs", func(_ http.ResponseWriter, r *http.Request) (any, error) { return s.listRuns(runs, r) })
	s.routes.on("GET /v1/benchmark_runs/{id}", func(_ http.ResponseWriter, r *http.Request) (any, error) { return s.getRecord(runs, r) })
	s.routes.on("GET /v1/benchmark_runs/{id}/scenario_runs", s.scenarioRunsOf)
	for path, state := range map[string]string{"complete": "completed", "cancel": "canceled"} {
		s.routes.on("POST /v1/benchmark_runs/{id}/"+path, s.endBenchmarkRun(state))
	}
	jobs := kind{collection: "benchmark_jobs", noun: "Benchmark job"}
	s.routes.on("GET /v1/benchmark_jobs/{id}", func(_ http.ResponseWriter, r *http.Request) (any, error) { return s.getRecord(jobs, r) })
	s.routes.on("GET /v1/benchmark_jobs", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return page(r, "jobs", s.records("benchmark_jobs").list(), func(c *record) string { return c.id }, viewRecord)
	})
	s.routes.on("POST /v1/benchmark_jobs", s.postJob)
	s.routes.on("GET /v1/agents/devbox_counts", func(http.ResponseWriter, *http.Request) (any, error) {
		return map[string]any{"counts": map[string]int{}, "total_count": 0}, nil
	})
}

func (s *Server) startBenchmarkRun(_ http.ResponseWriter, r *http.Request) (any, error) {
	request, err := decode[map[string]any](r)
	if err != nil {
		return nil, err
	}
	id, _ := request["benchmark_id"].(string)
	name, _ := request["run_name"].(string)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.record("benchmarks", id) == nil {
		return nil, notFound("Benchmark %s not found", id)
	}
	view := pick(request, "benchmark_id", "metadata")
	view["name"], view["state"], view["start_time_ms"] = request["run_name"], "running", nowMs()
	view["duration_ms"], view["score"] = nil, nil
	if view, err = orEmpty(view); err != nil {
		return nil, err
	}
	return viewRecord(s.addRecord("benchmark_runs", "bmr", name, view)), nil
}

func (s *Server) endBenchmarkRun(state string) endpoint {
	return func(_ http.ResponseWriter, r *http.Request) (any, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		run, err := s.findRecord(kind{collection: "benchmark_runs", noun: "Benchmark run"}, r)
		if err != nil {
			return nil, err
		}
		run.view["state"] = state
		run.view["duration_ms"] = nowMs() - run.view["start_time_ms"].(int64)
		return viewRecord(run), nil
	}
}

func (s *Server) scenarioRunsOf(_ http.ResponseWriter, r *http.Request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	run, err := s.findRecord(kind{collection: "benchmark_runs", noun: "Benchmark run"}, r)
	if err != nil {
		return nil, err
	}
	all := slices.DeleteFunc(s.records("scenario_runs").list(), func(c *record) bool { return c.view["benchmark_run_id"] != run.id })
	return page(r, "runs", all, func(c *record) string { return c.id }, viewRecord)
}

// changeScenarios adds scenarios to a benchmark and takes them from it.
func (s *Server) changeScenarios(_ http.ResponseWriter, r *http.Request) (any, error) {
	request, err := decode[struct {
		Add    []string `json:"scenarios_to_add"`
		Remove []string `json:"scenarios_to_remove"`
	}](r)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.findRecord(scenarioKinds()[2], r)
	if err != nil {
		return nil, err
	}
	ids, err := convert[[]string](c.view["scenarioIds"])
	if err != nil {
		return nil, err
	}
	for _, id := range request.Add {
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	ids = slices.DeleteFunc(ids, func(id string) bool { return slices.Contains(request.Remove, id) })
	c.view["scenarioIds"] = append([]string{}, ids...)
	return viewRecord(c), nil
}

// definitions lists a benchmark's scenarios.
func (s *Server) definitions(_ http.ResponseWriter, r *http.Request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.findRecord(scenarioKinds()[2], r)
	if err != nil {
		return nil, err
	}
	ids, err := convert[[]string](c.view["scenarioIds"])
	if err != nil {
		return nil, err
	}
	var all []*record
	for _, id := range ids {
		if scenario := s.records("scenarios").byID[id]; scenario != nil {
			all = append(all, scenario)
		}
	}
	return page(r, "scenarios", all, func(c *record) string { return c.id }, viewRecord)
}

// postJob keeps a job that nobody works on: agents that would solve it are not here.
func (s *Server) postJob(_ http.ResponseWriter, r *http.Request) (any, error) {
	request, err := decode[map[string]any](r)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	name, _ := request["name"].(string)
	if name == "" {
		name = "job-" + strconv.Itoa(len(s.records("benchmark_jobs").order)+1)
	}
	view := map[string]any{
		"name": name, "state": "queued", "create_time_ms": nowMs(), "benchmark_outcomes": nil, "failure_reason": nil,
		"in_progress_runs": nil, "job_source": nil, "job_spec": nil,
	}
	return viewRecord(s.addRecord("benchmark_jobs", "bmj", name, view)), nil
}

// runLogs answers with a zip of a run's devbox's log.
func (s *Server) runLogs(w http.ResponseWriter, r *http.Request) (any, error) {
	s.mu.Lock()
	run, err := s.findRecord(kind{collection: "scenario_runs", noun: "Scenario run"}, r)
	var d *devbox
	if err == nil {
		d = s.state.devboxes.byID[run.view["devbox_id"].(string)]
	}
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	archive := zip.NewWriter(&out)
	file, err := archive.Create("devbox.jsonl")
	if err != nil {
		return nil, err
	}
	lines := json.NewEncoder(file)
	if d != nil {
		entries, _, _ := d.logs.from(0)
		for _, entry := range entries {
			if err := lines.Encode(entry); err != nil {
				return nil, err
			}
		}
	}
	if err := archive.Close(); err != nil {
		return nil, err
	}
	w.Header().Set("Content-Type", "application/zip")
	_, _ = w.Write(out.Bytes())
	return written{}, nil
}
