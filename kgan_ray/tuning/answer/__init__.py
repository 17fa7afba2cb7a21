"""What a sweep's runs prove. Knows no Ray and no terminal."""
