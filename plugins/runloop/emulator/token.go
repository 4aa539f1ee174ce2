package emulator

import "net/http"

func (s *Server) tokenRoutes() {
	s.routes.on("POST /v1/devboxes/{id}/create_gateway_token", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		return s.mintToken(r, "gateway_configs", "gateway_config_id", "gateway", "auth_mechanism", "endpoint")
	})
	s.routes.on("POST /v1/devboxes/{id}/create_mcp_token", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		return s.mintToken(r, "mcp_configs", "mcp_config_id", "mcp", "allowed_tools", "endpoint")
	})
}

// mintToken makes a token for a running devbox; nothing here takes it.
func (s *Server) mintToken(r *http.Request, collection, idField, path string, fields ...string) (any, error) {
	body, err := decode[struct {
		Gateway   string
		McpConfig string `json:"mcp_config"`
		Secret    string
	}](r)
	if err != nil {
		return nil, err
	}
	d, _, err := s.runningDevbox(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	config := s.record(collection, body.Gateway+body.McpConfig)
	if config == nil || s.secret(body.Secret) == nil {
		return nil, badRequest("The config or secret %s was not found", body.Secret)
	}
	view := pick(config.view, fields...)
	view["devbox_id"], view[idField] = d.id, config.id
	view["token"], view["url"] = "gws_"+randomText(base62, 2*idLength), "http://"+s.apiAt.String()+"/"+path+"/"+config.id
	return view, nil
}
