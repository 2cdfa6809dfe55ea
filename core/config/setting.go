package config

// Type is the type of a setting's value.
type Type uint8

// The types, as in Kafka. Values of all types are written as text.
const (
	String Type = iota + 1
	Boolean
	Int   // 32 bits
	Short // 16 bits
	Long  // 64 bits
	Double
	List     // separated by commas
	Password // a string that is never shown
	Class    // the name of a Java class; Millrace loads none
)

// String is Kafka's name of the type in lower case.
func (t Type) String() string {
	switch t {
	case String:
		return "string"
	case Boolean:
		return "boolean"
	case Int:
		return "int"
	case Short:
		return "short"
	case Long:
		return "long"
	case Double:
		return "double"
	case List:
		return "list"
	case Password:
		return "password"
	case Class:
		return "class"
	default:
		return "unknown"
	}
}

// Code is the number of the type in DescribeConfigs (KIP-569); 0 is unknown.
func (t Type) Code() int8 {
	switch t {
	case Boolean:
		return 1
	case String:
		return 2
	case Int:
		return 3
	case Short:
		return 4
	case Long:
		return 5
	case Double:
		return 6
	case List:
		return 7
	case Class:
		return 8
	case Password:
		return 9
	default:
		return 0
	}
}

// typeByName reads the name of a type, in any case, and the names that
// core.SettingDef uses.
func typeByName(s string) (Type, bool) {
	switch s {
	case "string", "STRING":
		return String, true
	case "boolean", "BOOLEAN":
		return Boolean, true
	case "int", "INT":
		return Int, true
	case "short", "SHORT":
		return Short, true
	case "long", "LONG", "duration":
		return Long, true
	case "double", "DOUBLE":
		return Double, true
	case "list", "LIST":
		return List, true
	case "password", "PASSWORD":
		return Password, true
	case "class", "CLASS":
		return Class, true
	default:
		return 0, false
	}
}

// Importance is Kafka's advice to the reader of a long table.
type Importance uint8

// The importances.
const (
	Low Importance = iota + 1
	Medium
	High
)

// String is the name in lower case.
func (i Importance) String() string {
	switch i {
	case High:
		return "high"
	case Medium:
		return "medium"
	default:
		return "low"
	}
}

// Update says whether and where a setting may change while the broker runs.
type Update uint8

// The update modes, as Kafka's documentation names them (KIP-226).
const (
	// ReadOnly settings are read once, at the start.
	ReadOnly Update = iota
	// PerBroker settings may be altered for one broker, not for all of them.
	PerBroker
	// ClusterWide settings may be altered for one broker and as the default of all.
	ClusterWide
)

// String is Kafka's name of the mode.
func (u Update) String() string {
	switch u {
	case PerBroker:
		return "per-broker"
	case ClusterWide:
		return "cluster-wide"
	default:
		return "read-only"
	}
}

// Status says what Millrace does with a setting.
type Status uint8

// The statuses.
const (
	// Used settings do what their documentation says.
	Used Status = iota
	// Ignored settings are Kafka's; they are accepted and checked, so that an
	// existing file works, and a warning names them.
	Ignored
	// Obsolete settings are of Kafka releases before 3.9; accepted with a warning,
	// unchecked.
	Obsolete
)

// String is the status in lower case.
func (s Status) String() string {
	switch s {
	case Ignored:
		return "ignored"
	case Obsolete:
		return "obsolete"
	default:
		return "used"
	}
}

// Synonym is another name whose value stands in when the setting itself is not
// given, in another unit where Factor is not 1.
type Synonym struct {
	Name   string
	Factor int64 // value of the setting = value of the synonym × Factor; negative values are kept
}

// Setting describes one setting. It is read-only.
type Setting struct {
	Name string
	Type Type
	// Default is the value when nothing is given; HasDefault is false where there is
	// none (Kafka's null).
	Default    string
	HasDefault bool
	Importance Importance
	Update     Update // of broker settings; topic settings always change at run time
	Status     Status
	Valid      Rule
	// Doc is one or two sentences; empty for settings that are not used.
	Doc string
	// Synonyms, best first. For a broker setting, names that give it a value when it
	// is not given itself. For a topic setting, the broker settings that are its
	// default.
	Synonyms []Synonym
	// Millrace is true for settings that Kafka does not have.
	Millrace bool
	// Component is true for settings that came from a component, see NewTable.
	Component bool
	// DynamicOnly settings are given by AlterConfigs and never in a file.
	DynamicOnly bool
	// Internal settings are not documented by Kafka.
	Internal bool
}

// Sensitive reports whether the value must never be shown.
func (s *Setting) Sensitive() bool { return s.Type == Password }
