package config

import "strings"

const envPrefix = "MILLRACE_"

// envName is the name of a setting in the environment without MILLRACE_: upper
// case, dots and dashes become underscores.
func envName(name string) string {
	return strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(name))
}

// environ reads MILLRACE_ variables. The name of a setting in the environment is
// MILLRACE_, then the setting in upper case with underscores for dots. No two
// settings have the same one; NewTable sees to that. Names under listener.name.
// are found by the setting at their end, the longest that fits. Names under other
// open prefixes (plugin.) cannot be told apart and are refused.
func (l *loader) environ(environ []string) {
	for _, kv := range environ {
		key, value, ok := strings.Cut(kv, "=")
		rest, ours := strings.CutPrefix(key, envPrefix)
		if !ok || !ours || rest == "" {
			continue
		}
		at := Origin{Where: "environment variable " + key}
		if name, ok := l.table.envSetting(rest); ok {
			l.add(name, value, at)
			continue
		}
		if serviceLink(rest) {
			continue
		}
		if prefix, open := l.table.envPassthrough(rest); open {
			l.problem(at, "", "names under %s cannot be given in the environment, where a dot and an underscore look the same; use the file or --override", prefix)
			continue
		}
		l.problem(at, "", "%s", l.table.unknown(strings.ToLower(strings.ReplaceAll(rest, "_", "."))))
	}
}

// envSetting finds the setting for the part of a variable's name after MILLRACE_.
func (t *Table) envSetting(rest string) (string, bool) {
	if name, ok := t.env[rest]; ok {
		return name, t.broker[name].Status != Obsolete
	}
	after, ok := strings.CutPrefix(rest, envName(listenerPrefix))
	if !ok {
		return "", false
	}
	for i := range len(after) {
		if i == 0 || after[i] != '_' {
			continue
		}
		if setting, ok := t.env[after[i+1:]]; ok {
			return listenerPrefix + strings.ToLower(after[:i]) + "." + setting, true
		}
	}
	return "", false
}

func (t *Table) envPassthrough(rest string) (string, bool) {
	for prefix := range t.used {
		if strings.HasPrefix(rest, envName(prefix)) {
			return prefix, true
		}
	}
	return "", false
}

// serviceLink recognises what Kubernetes and Docker put into the environment for a
// service called millrace: MILLRACE_SERVICE_HOST, MILLRACE_PORT_9092_TCP and so on.
// They are not settings.
func serviceLink(rest string) bool {
	for part := range strings.SplitSeq(rest, "_") {
		if part == "SERVICE" || part == "PORT" {
			return strings.Contains("_"+rest, "_SERVICE_HOST") || strings.Contains("_"+rest, "_SERVICE_PORT") ||
				rest == "PORT" || strings.HasSuffix(rest, "_PORT") || strings.Contains(rest, "_TCP") || strings.Contains(rest, "_UDP")
		}
	}
	return false
}
