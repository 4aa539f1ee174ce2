package action

// Browse is the payload of a browse action (openhands-v0 2.2). Unknown fields are ignored.
type Browse struct {
	URL string `json:"url"`
	// ReturnAXTree keeps the page's trees in the observation.
	ReturnAXTree bool `json:"return_axtree,omitempty"`
}

// BrowseInteractive is the payload of a browse_interactive action (openhands-v0 2.2). Unknown fields are ignored.
type BrowseInteractive struct {
	// BrowserActions is code: calls of BrowserGym's functions.
	BrowserActions string `json:"browser_actions"`
	ReturnAXTree   bool   `json:"return_axtree,omitempty"`
}

// DecodeBrowse reads the payload of a browse action. Errors name the field.
func DecodeBrowse(payload []byte) (*Browse, error) {
	var wire struct {
		Browse
		URL *string `json:"url"`
	}
	if err := decode(payload, &wire, true); err != nil {
		return nil, err
	}
	if wire.URL == nil {
		return nil, missing("url")
	}
	wire.Browse.URL = *wire.URL
	return &wire.Browse, nil
}

// DecodeBrowseInteractive reads the payload of a browse_interactive action. Errors name the field.
func DecodeBrowseInteractive(payload []byte) (*BrowseInteractive, error) {
	var wire struct {
		BrowseInteractive
		BrowserActions *string `json:"browser_actions"`
	}
	if err := decode(payload, &wire, true); err != nil {
		return nil, err
	}
	if wire.BrowserActions == nil {
		return nil, missing("browser_actions")
	}
	wire.BrowseInteractive.BrowserActions = *wire.BrowserActions
	return &wire.BrowseInteractive, nil
}
