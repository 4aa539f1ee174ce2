package action

import "testing"

func TestObservationJSON(t *testing.T) {
	got := string(ErrorObservation("a <b> & \"c\"\n\xff"))
	want := `{"message":"a <b> & \"c\"\n\ufffd","observation":"error","content":"a <b> & \"c\"\n\ufffd","extras":{"error_id":""}}`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	success := true
	got = string(Observation[struct{}]{Observation: "run_ipython", Success: &success}.JSON())
	if want := `{"message":"","observation":"run_ipython","content":"","extras":{},"success":true}`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
