package action

// RunIPython is the payload of a run_ipython action: a cell for the sandbox's one kernel (openhands-v0 2.2, 2.6). Unknown fields are
// ignored.
type RunIPython struct {
	// Code may use magics (%pip install ...) and shell escapes (!ls).
	Code string
	// IncludeExtra adds the lines about working directory and interpreter to the content.
	IncludeExtra bool
	// KernelInitCode is run before the cell, once in each kernel.
	KernelInitCode string
}

// DecodeRunIPython reads the payload of a run_ipython action; include_extra is true if it is left out or null. Errors name the field.
func DecodeRunIPython(payload []byte) (*RunIPython, error) {
	var wire struct {
		Code         *string `json:"code"`
		IncludeExtra *bool   `json:"include_extra"`
		Init         *string `json:"kernel_init_code"`
	}
	if err := decode(payload, &wire, true); err != nil {
		return nil, err
	}
	if wire.Code == nil {
		return nil, missing("code")
	}
	r := &RunIPython{Code: *wire.Code, IncludeExtra: wire.IncludeExtra == nil || *wire.IncludeExtra}
	if wire.Init != nil {
		r.KernelInitCode = *wire.Init
	}
	return r, nil
}

// RunIPythonExtras are the extras of a run_ipython observation (openhands-v0 2.3).
type RunIPythonExtras struct {
	Code string `json:"code"`
	// ImageURLs are data URLs of PNGs; null if there are none.
	ImageURLs []string `json:"image_urls"`
}

// RunIPythonObservation is the payload of a cell that ran: an exception in it is text, and success is always true.
func RunIPythonObservation(code, content string, images []string) []byte {
	success := true
	return Observation[RunIPythonExtras]{Message: "Code executed in IPython cell.", Observation: KindRunIPython, Content: content,
		Extras: RunIPythonExtras{Code: code, ImageURLs: images}, Success: &success}.JSON()
}
