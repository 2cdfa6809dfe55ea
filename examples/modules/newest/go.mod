module example.com/newest

go 1.26.0

require github.com/millrace/millrace v0.0.0

replace github.com/millrace/millrace => ../../..
