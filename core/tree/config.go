package tree

import "fmt"

type configJSON struct {
	Version number            `json:"version"`
	Config  map[string]string `json:"config"`
}

// EncodeConfig writes the configuration of an entity, version 1.
func EncodeConfig(config map[string]string) []byte {
	if config == nil {
		config = map[string]string{}
	}
	return encode(configJSON{Version: 1, Config: config})
}

// DecodeConfig reads the configuration of an entity. Empty data is an empty
// configuration, as Kafka reads it.
func DecodeConfig(data []byte) (map[string]string, error) {
	if len(data) == 0 {
		return map[string]string{}, nil
	}
	var j configJSON
	if err := decode("a configuration", data, &j); err != nil {
		return nil, err
	}
	if j.Version != 1 {
		return nil, versionError("a configuration", j.Version, "1")
	}
	if j.Config == nil {
		j.Config = map[string]string{}
	}
	return j.Config, nil
}

type configChangeJSON struct {
	Version number `json:"version"`
	Path    string `json:"entity_path,omitempty"`
	Type    string `json:"entity_type,omitempty"` // version 1
	Name    string `json:"entity_name,omitempty"` // version 1
}

// EncodeConfigChange writes the notification of a changed configuration, version 2.
func EncodeConfigChange(e Entity) []byte {
	return encode(configChangeJSON{Version: 2, Path: e.String()})
}

// DecodeConfigChange reads versions 1 (CMAK writes it) and 2.
func DecodeConfigChange(data []byte) (Entity, error) {
	var j configChangeJSON
	if err := decode("a configuration change", data, &j); err != nil {
		return Entity{}, err
	}
	switch j.Version {
	case 1:
		e, err := ParseEntity(j.Type + "/" + j.Name)
		if err != nil {
			return Entity{}, fmt.Errorf("read a configuration change: %w", err)
		}
		return e, nil
	case 2:
		e, err := ParseEntity(j.Path)
		if err != nil {
			return Entity{}, fmt.Errorf("read a configuration change: %w", err)
		}
		return e, nil
	default:
		return Entity{}, versionError("a configuration change", j.Version, "1, 2")
	}
}
