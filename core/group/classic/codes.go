package classic

// Kafka's error codes that the machine answers.
const (
	codeUnknownServer     int16 = -1
	codeUnknownPartition  int16 = 3
	codeInvalidFetchSize  int16 = 4
	codeNotLeader         int16 = 6
	codeTimedOut          int16 = 7
	codeTooLarge          int16 = 10
	codeNotAvailable      int16 = 15
	codeNotCoordinator    int16 = 16
	codeListTooLarge      int16 = 18
	codeNotEnough         int16 = 19
	codeNotEnoughAfter    int16 = 20
	codeIllegalGeneration int16 = 22
	codeInconsistent      int16 = 23
	codeUnknownMember     int16 = 25
	codeInvalidSession    int16 = 26
	codeRebalance         int16 = 27
	codeStorage           int16 = 56
	codeMemberIDRequired  int16 = 79
	codeGroupMaxSize      int16 = 81
	codeFenced            int16 = 82
)
