module rota.test/goclient

go 1.21

require github.com/beanstalkd/go-beanstalk v0.2.0
