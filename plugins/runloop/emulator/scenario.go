package emulator

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/openhands-rt/openhands-rt/plugins/runloop/api"
	"github.com/openhands-rt/openhands-rt/plugins/runloop/emulator/internal/box"
)

// scorerTimeout is how long a scorer may take where its scenario says nothing else.
const scorerTimeout = 30 * time.Minute

// scenarioKinds are the resources of evaluation.
func scenarioKinds() []kind {
	scenarioFields := []string{"name", "input_context", "scoring_contract", "metadata", "reference_output",
		"required_environment_variables", "required_secret_names", "scorer_timeout_sec", "validation_type"}
	benchmarkFields := []string{"name", "attribution", "description", "metadata", "required_environment_variables", "required_secret_names"}
	return []kind{
		{
			path: "/v1/scenarios", collection: "scenarios", prefix: "scn", noun: "Scenario",
			required: []string{"name", "input_context", "scoring_contract"},
			make: func(request map[string]any) (map[string]any, error) {
				view := withLists(pick(request, scenarioFields...))
				view["environment"], view["status"], view["is_public"] = request["environment_parameters"], "active", false
				return orEmpty(view)
			},
			change: func(request map[string]any) (map[string]any, error) {
				if environment, ok := request["environment_parameters"]; ok {
					request["environment"] = environment
				}
				return given(append(scenarioFields, "environment")...)(request)
			},
		},
		{
			path: "/v1/scenarios/scorers", collection: "scorers", prefix: "scr", noun: "Scorer", required: []string{"type", "bash_script"},
			make:   func(request map[string]any) (map[string]any, error) { return pick(request, "type", "bash_script"), nil },
			change: given("type", "bash_script"),
		},
		{
			path: "/v1/benchmarks", collection: "benchmarks", prefix: "bmd", noun: "Benchmark", required: []string{"name"},
			make: func(request map[string]any) (map[string]any, error) {
				view := withLists(pick(request, benchmarkFields...))
				view["scenarioIds"], view["status"], view["is_public"] = listOr(request["scenario_ids"]), "active", false
				return orEmpty(view)
			},
			change: func(request map[string]any) (map[string]any, error) {
				if ids, ok := request["scenario_ids"]; ok {
					request["scenarioIds"] = ids
				}
				return given(append(benchmarkFields, "scenarioIds")...)(request)
			},
		},
	}
}

func listOr(value any) any {
	if value == nil {
		return []any{}
	}
	return value
}

func withLists(view map[string]any) map[string]any {
	for _, name := range []string{"required_environment_variables", "required_secret_names"} {
		view[name] = listOr(view[name])
	}
	return view
}

func (s *Server) scenarioRoutes() {
	s.routes.on("POST /v1/scenarios/{id}/archive", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		c, err := s.findRecord(scenarioKinds()[0], r)
		if err != nil {
			return nil, err
		}
		c.view["status"] = "archived"
		return viewRecord(c), nil
	})
	s.routes.on("POST /v1/scenarios/start_run", s.startRun)
	runs := kind{collection: "scenario_runs", noun: "Scenario run"}
	list := kind{collection: "scenario_runs"}
	s.routes.on("GET /v1/scenarios/runs", func(_ http.ResponseWriter, r *http.Request) (any, error) { return s.listRuns(list, r) })
	s.routes.on("GET /v1/scenarios/runs/{id}", func(_ http.ResponseWriter, r *http.Request) (any, error) { return s.getRecord(runs, r) })
	s.routes.on("POST /v1/scenarios/runs/{id}/score", s.scoreRun)
	s.routes.on("POST /v1/scenarios/runs/{id}/complete", s.endRun("completed"))
	s.routes.on("POST /v1/scenarios/runs/{id}/cancel", s.endRun("canceled"))
	s.routes.on("POST /v1/scenarios/runs/{id}/download_logs", s.runLogs)
}

// listRuns lists runs of either kind: both call them runs.
func (s *Server) listRuns(k kind, r *http.Request) (any, error) {
	answer, err := s.listRecords(k, r)
	if err != nil {
		return nil, err
	}
	fields, _ := answer.(map[string]any)
	fields["runs"] = fields[k.collection]
	delete(fields, k.collection)
	return fields, nil
}

// startRun makes the devbox of a scenario's environment.
func (s *Server) startRun(_ http.ResponseWriter, r *http.Request) (any, error) {
	request, err := decode[map[string]any](r)
	if err != nil {
		return nil, err
	}
	id, _ := request["scenario_id"].(string)
	s.mu.Lock()
	defer s.mu.Unlock()
	scenario := s.record("scenarios", id)
	if scenario == nil {
		return nil, notFound("Scenario %s not found", id)
	}
	d, err := s.runDevbox(r, scenario, request)
	if err != nil {
		return nil, err
	}
	view := pick(request, "metadata", "benchmark_run_id")
	name, _ := request["run_name"].(string)
	view["name"], view["devbox_id"], view["scenario_id"] = request["run_name"], d.id, scenario.id
	view["state"], view["start_time_ms"], view["duration_ms"], view["scoring_contract_result"] = "running", nowMs(), nil, nil
	if view, err = orEmpty(view); err != nil {
		return nil, err
	}
	return viewRecord(s.addRecord("scenario_runs", "run", name, view)), nil
}

// runDevbox makes a devbox in a scenario's environment. The server's lock is held.
func (s *Server) runDevbox(r *http.Request, scenario *record, request map[string]any) (*devbox, error) {
	environment, err := convert[struct {
		BlueprintID      *string               `json:"blueprint_id"`
		SnapshotID       *string               `json:"snapshot_id"`
		LaunchParameters *api.LaunchParameters `json:"launch_parameters"`
	}](scenario.view["environment"])
	if err != nil {
		return nil, err
	}
	profile, err := convert[struct {
		EnvVars map[string]string `json:"envVars"`
		Secrets map[string]string `json:"secrets"`
	}](request["runProfile"])
	if err != nil {
		return nil, err
	}
	d := s.newDevbox(api.DevboxCreateParameters{
		BlueprintID: environment.BlueprintID, SnapshotID: environment.SnapshotID, LaunchParameters: environment.LaunchParameters,
		EnvironmentVariables: profile.EnvVars, Secrets: profile.Secrets,
	})
	if err := s.enter(r, d); err != nil {
		return nil, err
	}
	return d, nil
}

// scoreRun runs a scenario's scorers in its devbox, in the background.
func (s *Server) scoreRun(_ http.ResponseWriter, r *http.Request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	run, err := s.findRecord(kind{collection: "scenario_runs", noun: "Scenario run"}, r)
	if err != nil {
		return nil, err
	}
	d := s.state.devboxes.byID[run.view["devbox_id"].(string)]
	if state := run.view["state"]; state != "running" && state != "scored" || d == nil || d.box == nil {
		return nil, badRequest("Scenario run %s cannot be scored: it is in state %s", run.id, state)
	}
	scenario := s.records("scenarios").byID[run.view["scenario_id"].(string)]
	contract, err := convert[scoringContract](scenario.view["scoring_contract"])
	if err != nil {
		return nil, err
	}
	run.view["state"] = "scoring"
	b := d.box
	s.work.Go(func() { s.score(run, b, contract) })
	return viewRecord(run), nil
}

// scoringContract is what a scenario is scored by.
type scoringContract struct {
	Functions []struct {
		Name   string
		Weight float64
		Scorer struct {
			Type         string
			BashScript   string `json:"bash_script"`
			Command      string
			PythonScript string `json:"python_script"`
			TestCommand  string `json:"test_command"`
			CustomType   string `json:"custom_scorer_type"`
			TestFiles    []struct {
				Contents string `json:"file_contents"`
				Path     string `json:"file_path"`
			} `json:"test_files"`
		}
	} `json:"scoring_function_parameters"`
}

func (s *Server) score(run *record, b *box.Box, contract scoringContract) {
	var results []any
	var sum, weights float64
	for _, f := range contract.Functions {
		command := f.Scorer.BashScript + f.Scorer.Command + f.Scorer.TestCommand
		if f.Scorer.PythonScript != "" {
			command = "python3 -c " + quote(f.Scorer.PythonScript)
		}
		if f.Scorer.CustomType != "" {
			command = s.customScorer(f.Scorer.CustomType)
		}
		for _, file := range f.Scorer.TestFiles {
			_ = put(b, file.Path, strings.NewReader(file.Contents))
		}
		score, output, state := s.runScorer(b, command)
		sum, weights = sum+score*f.Weight, weights+f.Weight
		results = append(results, map[string]any{"scoring_function_name": f.Name, "score": score, "output": output, "state": state})
	}
	total := 0.0
	if weights > 0 {
		total = sum / weights
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if run.view["state"] == "scoring" {
		run.view["state"] = "scored"
		run.view["scoring_contract_result"] = map[string]any{"score": total, "scoring_function_results": append([]any{}, results...)}
	}
}

func (s *Server) customScorer(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.records("scorers").list() {
		if c.view["type"] == name {
			script, _ := c.view["bash_script"].(string)
			return script
		}
	}
	return "echo 'there is no such scorer' >&2; exit 1"
}

// runScorer runs one scorer: the last line of its output is the score if it is a number, else its success is 1 and its failure 0.
func (s *Server) runScorer(b *box.Box, command string) (score float64, output, state string) {
	ctx, cancel := context.WithTimeout(s.running, scorerTimeout)
	defer cancel()
	process, err := b.Start(box.StartOptions{}, b.Shell("", command)...)
	if err != nil {
		return 0, err.Error(), "error"
	}
	select {
	case <-process.Done():
	case <-ctx.Done():
		return 0, "the scorer took too long", "error"
	}
	output = process.Stdout.String()
	lines := strings.Fields(output)
	if len(lines) > 0 {
		if n, err := strconv.ParseFloat(lines[len(lines)-1], 64); err == nil {
			return min(max(n, 0), 1), output, "complete"
		}
	}
	if process.Exit() == 0 {
		return 1, output, "complete"
	}
	return 0, output + process.Stderr.String(), "complete"
}

// endRun ends a run and its devbox.
func (s *Server) endRun(state string) endpoint {
	return func(_ http.ResponseWriter, r *http.Request) (any, error) {
		s.mu.Lock()
		run, err := s.findRecord(kind{collection: "scenario_runs", noun: "Scenario run"}, r)
		if err != nil {
			s.mu.Unlock()
			return nil, err
		}
		run.view["state"] = state
		run.view["duration_ms"] = nowMs() - run.view["start_time_ms"].(int64)
		d := s.state.devboxes.byID[run.view["devbox_id"].(string)]
		view := viewRecord(run)
		s.mu.Unlock()
		if d != nil {
			s.shutDown(d, apiShutdown)
		}
		return view, nil
	}
}
