package core

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// settingsOf describes the tagged fields of a config struct.
func settingsOf(cfg any) ([]SettingDef, error) {
	var defs []SettingDef
	err := eachSetting(cfg, func(name string, tag reflect.StructTag, f reflect.Value) error {
		typ, err := typeName(f.Type())
		if err != nil {
			return fmt.Errorf("setting %s: %w", name, err)
		}
		defs = append(defs, SettingDef{Name: name, Type: typ, Default: format(f), Doc: tag.Get("doc"), Topic: tag.Get("scope") == "topic"})
		return nil
	})
	return defs, err
}

// bind fills the tagged fields of a config struct from settings.
func bind(cfg any, settings func(string) (string, bool)) error {
	return eachSetting(cfg, func(name string, _ reflect.StructTag, f reflect.Value) error {
		s, ok := settings(name)
		if !ok {
			return nil
		}
		if err := parse(f, strings.TrimSpace(s)); err != nil {
			typ, _ := typeName(f.Type())
			return fmt.Errorf("setting %s=%s: want a value of type %s: %w", name, s, typ, ErrInvalidConfig)
		}
		return nil
	})
}

func eachSetting(cfg any, visit func(name string, tag reflect.StructTag, f reflect.Value) error) error {
	v := reflect.ValueOf(cfg).Elem()
	if v.Kind() != reflect.Struct {
		return fmt.Errorf("config is a %s, not a struct: %w", v.Kind(), ErrInvalidConfig)
	}
	for i := range v.NumField() {
		tag := v.Type().Field(i).Tag
		name := tag.Get("setting")
		if name == "" {
			continue
		}
		if err := visit(name, tag, v.Field(i)); err != nil {
			return err
		}
	}
	return nil
}

func typeName(t reflect.Type) (string, error) {
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return "duration", nil
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.String:
		return "list", nil
	}
	switch t.Kind() {
	case reflect.String:
		return "string", nil
	case reflect.Bool:
		return "boolean", nil
	case reflect.Int, reflect.Int32:
		return "int", nil
	case reflect.Int64:
		return "long", nil
	case reflect.Float64:
		return "double", nil
	default:
		return "", fmt.Errorf("a field of type %s cannot be a setting: %w", t, ErrInvalidConfig)
	}
}

func format(f reflect.Value) string {
	if f.Type() == reflect.TypeFor[time.Duration]() {
		return strconv.FormatInt(time.Duration(f.Int()).Milliseconds(), 10)
	}
	if f.Kind() == reflect.Slice {
		parts := make([]string, f.Len())
		for i := range parts {
			parts[i] = f.Index(i).String()
		}
		return strings.Join(parts, ",")
	}
	return fmt.Sprint(f.Interface())
}

func parse(f reflect.Value, s string) error {
	if f.Type() == reflect.TypeFor[time.Duration]() {
		ms, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return err
		}
		f.SetInt(ms * int64(time.Millisecond))
		return nil
	}
	switch f.Kind() {
	case reflect.String:
		f.SetString(s)
	case reflect.Bool:
		b, err := strconv.ParseBool(strings.ToLower(s))
		if err != nil {
			return err
		}
		f.SetBool(b)
	case reflect.Int, reflect.Int32, reflect.Int64:
		n, err := strconv.ParseInt(s, 10, f.Type().Bits())
		if err != nil {
			return err
		}
		f.SetInt(n)
	case reflect.Float64:
		x, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return err
		}
		f.SetFloat(x)
	case reflect.Slice:
		var list []string
		for _, part := range strings.Split(s, ",") {
			if part = strings.TrimSpace(part); part != "" {
				list = append(list, part)
			}
		}
		f.Set(reflect.ValueOf(list))
	}
	return nil
}
